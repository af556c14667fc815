"""`python -m loadtests.closed_loop`: a log comes back from a service as it was sent; some minutes.

A simulated log goes two ways. From its CSV by `prepare --dataset own`; and through a running service, as
events out of order, repeated, and in parts that are merged, with slates between them, by `prepare --dataset
served`. `fit` runs on both, what was fitted on the served log is promoted, and the service answers with it.
Rows and figures of both ways are to be the same.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import polars as pl
import typer

from loadtests.command import (
    BundleOption,
    JsonOption,
    LoadtestError,
    log_progress,
    make_app,
    print_report,
    run,
)
from loadtests.environment import Service, version_folder
from models.schema import Candidate, FeedbackEvent
from models.served_log import Kind, LoggedEvent, LoggedSlate, decoded_lines, log_files
from models.store import BundleStore
from service.client import Client

BATCH: Final = 100
CANDIDATES: Final = 20
DAYS: Final = 8
FIT: Final = (
    *("loop.epochs=2", "loop.sequence_length=30", "encoder.width=32", "encoder.hidden=64", "trees.rounds=50"),
    *("closed_form.window_days=2", "closed_form.redraws=1", "closed_form.steps=30"),
    *("loop.counterfactual=0", "lda.anchors.sequences=512", "lda.anchors.epochs=10"),
)
"""`any_log`, small."""

Row = dict[str, Any]


def main(
    events: Annotated[int, typer.Option(min=1_000)] = 20_000,
    slates: Annotated[int, typer.Option(min=1)] = 2_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    bundle: BundleOption = None,
    report: JsonOption = None,
) -> None:
    """Go both ways and print JSON. Needs the extra `train`."""
    with tempfile.TemporaryDirectory(prefix="closed-loop-") as folder:
        found = closed_loop(Path(folder), events, slates, seed, version_folder(bundle), FIT)
    print_report("python -m loadtests.closed_loop --json loadtests/closed_loop.json", found, report)


def closed_loop(
    folder: Path, events: int, slates: int, seed: int, version: Path, settings: tuple[str, ...]
) -> dict[str, Any]:
    """Go both ways in an empty folder, and return counts and figures.

    Args:
        folder: an empty one.
        events: exposures of the simulated log, about.
        slates: that are asked for meanwhile.
        seed: of the log and of what is drawn.
        version: of the bundle that answers at first.
        settings: `--set` of `fit any_log`.

    Raises:
        LoadtestError: a command or a request fails.
    """
    found = there_and_back(folder, events, slates, seed, version)
    figures = {way: _fit(folder, way, settings) for way in found["rows"]}
    forced = ("--allow-unlearned", "--force")  # a fit as brief as this may be worse than the median
    bundles = folder / "bundles"
    exported = ("--data", folder / "served-data", "--to", bundles, "--promote", *forced)
    _run("export", folder / "served-run", *exported)
    promoted = BundleStore(bundles).current()
    video = str(pl.read_parquet(folder / "served-data" / "interactions.parquet")["video_id"][0])
    with Service(bundles, folder / "data-after") as service, Client(service.url) as client:
        answered = client.rerank("u1", [Candidate(video_id=video)]).model_version
    return {
        **found,
        "config": {**found["config"], "fit": list(settings)},
        "figures": figures,
        "figures_are_the_same": figures["own"] == figures["served"],
        "promoted": promoted,
        "answered_by_the_promoted": answered == promoted,
    }


def there_and_back(folder: Path, events: int, slates: int, seed: int, version: Path) -> dict[str, Any]:
    """Send a simulated log to a service, and prepare both it and what the service has logged.

    Args: as of `closed_loop`.
    """
    log, served = folder / "log.csv", folder / "served"
    rows = _simulated(folder, log, events, seed)
    sent = versions_of(rows, random.Random(seed))
    with Service(version, folder / "data", env={"REELRANK_LOG_DIR": str(served)}) as service:
        _send(service.url, sent, slates)
    _run("prepare", "--dataset", "own", "--source", log, "--out", folder / "own-data")
    _run("prepare", "--dataset", "served", "--source", served, "--out", folder / "served-data")
    tables = {
        way: pl.read_parquet(folder / f"{way}-data" / "interactions.parquet") for way in ("own", "served")
    }
    return {
        "config": {"events": len(rows), "slates": slates, "seed": seed},
        "sent_events": len(sent),
        "logged": {
            "events": _count(served, "events", LoggedEvent),
            "slates": _count(served, "slates", LoggedSlate),
        },
        "rows": {way: len(table) for way, table in tables.items()},
        "rows_are_the_same": tables["own"].equals(tables["served"]),
    }


def versions_of(rows: list[Row], draw: random.Random) -> list[FeedbackEvent]:
    """Return events that say together what the rows do: some in parts, some twice, a day's out of order."""
    sent: list[FeedbackEvent] = []
    for number, row in enumerate(rows):
        begun = FeedbackEvent(
            event_id=f"e{number:08}",
            user_id=row["uid"],
            video_id=row["vid"],
            timestamp_ms=row["ts"],
            watch_time_s=row["watched"] / 2,
            duration_s=row["length"],
            author_id=row["creator"],
            tag=row["category"],
        )
        flags = {ours: bool(row[theirs]) for ours, theirs in FLAGS.items()}
        whole = msgspec.structs.replace(begun, watch_time_s=row["watched"], **flags)
        sent += draw.choice([[whole]] * 6 + [[whole, whole], [begun, whole], [whole, begun]])
    for start in range(0, len(sent), 1_000):
        part = sent[start : start + 1_000]
        draw.shuffle(part)
        sent[start : start + 1_000] = part
    return sent


FLAGS: Final = {"like": "liked", "follow": "followed", "comment": "commented", "hate": "not_interested"}
"""Ours, and as the CSV has them."""


def _simulated(folder: Path, csv: Path, events: int, seed: int) -> list[Row]:
    """Write a simulated log as a CSV with columns of its own, and return its rows."""
    config, out = folder / "config.json", folder / "simulated"
    config.write_text(json.dumps({"exposures": events, "days": DAYS, "users": max(60, events // 66)}))
    _run("prepare", "--dataset", "synthetic", "--source", config, "--seed", seed, "--out", out)
    columns = {
        "uid": "user_id", "vid": "video_id", "ts": "timestamp_ms", "watched": "watch_time_s",
        "length": "duration_s", "creator": "author_id", "category": "tag",
    }  # fmt: skip
    log = pl.read_parquet(out / "interactions.parquet").select(
        *(pl.col(ours).alias(theirs) for theirs, ours in columns.items()),
        *(pl.col(ours).cast(pl.Int8).alias(theirs) for ours, theirs in FLAGS.items()),
    )
    log.write_csv(csv)
    return pl.read_csv(
        csv, schema_overrides=dict.fromkeys(("uid", "vid", "creator", "category"), pl.String)
    ).to_dicts()


def _send(url: str, sent: list[FeedbackEvent], slates: int) -> None:
    batches = [sent[start : start + BATCH] for start in range(0, len(sent), BATCH)]
    with Client(url) as client:
        for number, batch in enumerate(batches):
            if (reply := client.label(batch, deadline_ms=60_000)).rejected:
                raise LoadtestError(f"the service rejects {reply.rejected[0].detail}")
            for slate in _share(number, len(batches), slates):
                first = batch[slate % len(batch)]
                candidates = [Candidate(video_id=event.video_id) for event in batch[:CANDIDATES]]
                client.rerank(first.user_id, candidates, deadline_ms=60_000)
    log_progress("closed_loop", f"sent {len(sent):,} events and {slates:,} slates")


def _count(served: Path, kind: Kind, line: type[LoggedEvent] | type[LoggedSlate]) -> int:
    return sum(1 for path in log_files(served, kind) for _ in decoded_lines(path, line))


def _share(number: int, parts: int, count: int) -> Iterator[int]:
    """Spread `count` evenly over the parts."""
    yield from range(number * count // parts, (number + 1) * count // parts)


def _fit(folder: Path, way: str, settings: tuple[str, ...]) -> dict[str, float | None]:
    note = folder / f"{way}.json"
    _run(
        *("fit", "any_log", "--data", folder / f"{way}-data", "--out", folder / f"{way}-run"),
        *("--threads", 1, "--json", note, *set_options(settings)),
    )
    figures: dict[str, float | None] = json.loads(note.read_text())["metrics"]
    return figures


def set_options(settings: tuple[str, ...]) -> list[str]:
    """Return settings as options of `fit`."""
    return [part for setting in settings for part in ("--set", setting)]


def _run(*arguments: object) -> None:
    log_progress("closed_loop", f"python -m training {' '.join(map(str, arguments[:3]))}")
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise LoadtestError(f"python -m training {arguments[0]}: {result.stderr.strip()[-500:]}")


app = make_app("closed_loop", main)

if __name__ == "__main__":
    run(app)
