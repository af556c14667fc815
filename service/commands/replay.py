"""`python -m service replay`: events from a file through a running service, resumable."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from models.errors import BadInput
from models.schema import FLAGS
from service.client import Client, Refused, Retries, Unreachable

PATIENCE: Final = Retries(tries=8, first_pause_s=0.5, longest_pause_s=30.0, budget=1.0)
"""A batch waits for the service for half a minute at least. There is never more than one request at a time;
the budget that keeps many callers from coming back at once would only end a replay early."""

OUTCOMES: Final = ("accepted", "duplicates", "merged", "rejected")

COLUMNS: Final = ("user_id", "video_id", "timestamp_ms", "watch_time_s", "duration_s", *FLAGS)
OPTIONAL: Final = ("event_id", "tab", "author_id", "tag", "session_id", "device")


def replay(source: str, url: str, *, rate: float, batch: int, progress: Path | None, key: str = "") -> None:
    """Send every event and say what became of them.

    Args:
        source: an NDJSON file, `-` for standard input, or a `.parquet` file as `prepare` writes it. Its rows
            have no `event_id`; user, video and time make one, so that replaying twice is once.
        url: of the service.
        rate: events a second; 0 is as fast as it answers.
        batch: events a request.
        progress: a file that remembers how many events of `source` are done. It is written after each
            batch was acknowledged, so an interrupted replay repeats one batch at most, which changes nothing.
        key: an API key with the right `label`.

    Raises:
        BadInput: the file cannot be read, or the service is not there.
        ServiceError: the service refuses the requests as such, or could not store the events for longer than
            we wait.
        Unreachable: the service went away, for longer than we wait.
    """
    done = _resume(progress, source)
    events = itertools.islice(_events(source), done, None)
    counts = dict.fromkeys(OUTCOMES, 0)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with (
        Client(url, key=key, timeout_s=30.0, retries=PATIENCE) as client,
        Progress(*columns, console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task("events", total=None, completed=done)
        started, sent = time.monotonic(), 0
        for lines in _batched(events, batch):
            if not sent:
                _reach(client)
            if rate:
                time.sleep(max(0.0, started + sent / rate - time.monotonic()))
            for outcome, count in _send(client, lines).items():
                counts[outcome] += count
            sent += len(lines)
            done += len(lines)
            if progress is not None:
                _remember(progress, source, done)
            bar.update(task, completed=done)
    took = time.monotonic() - started
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    print(f"{sent} events in {took:.1f} s ({sent / max(took, 1e-9):.0f}/s): {told}")


def _reach(client: Client) -> None:
    """A service that goes away is waited for; one that was never there is a wrong address."""
    try:
        client.health()
    except Unreachable as e:
        raise BadInput(f"{e} Start one: make serve.") from e


def _send(client: Client, lines: list[bytes]) -> dict[str, int]:
    """One batch. A line that is no JSON spoils it: then the others are sent without such lines."""
    try:
        (reply,) = client.label_all(lines, batch=len(lines))
    except Refused as e:
        if e.problem.status != HTTPStatus.BAD_REQUEST:
            raise
        good = [line for line in lines if _is_json(line)]
        if len(good) == len(lines):
            if len(lines) > 1:
                raise
            good = []  # JSON to us, and not to the service, which is stricter
        counts = _send(client, good) if good else dict.fromkeys(OUTCOMES, 0)
        counts["rejected"] += len(lines) - len(good)
        return counts
    return {
        "accepted": reply.accepted,
        "duplicates": reply.duplicates,
        "merged": reply.merged,
        "rejected": len(reply.rejected),
    }


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _events(source: str) -> Iterator[bytes]:
    """One JSON object an event."""
    if source == "-":
        yield from _lines(sys.stdin.buffer)
        return
    path = Path(source)
    if not path.is_file():
        raise BadInput(f"{source} is not a file; name an NDJSON or parquet file, or - for standard input.")
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    with path.open("rb") as file:
        yield from _lines(file)


def _lines(file: Iterable[bytes]) -> Iterator[bytes]:
    for line in file:
        if text := line.strip():
            yield text


def _parquet(path: Path) -> Iterator[bytes]:
    """Rows as events. Parquet is read by polars, which serving does not install; it is used where it is."""
    try:
        polars = importlib.import_module("polars")
    except ImportError:
        raise BadInput(
            f"Reading {path} needs polars (pip install 'polars>=2.1'), which serving does without; "
            "or give the events as NDJSON."
        ) from None
    try:
        rows = polars.scan_parquet(path)
        names = rows.collect_schema().names()
        if missing := [name for name in COLUMNS[:5] if name not in names]:
            raise BadInput(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}.")
        wanted = [name for name in (*COLUMNS, *OPTIONAL) if name in names]
        frame = rows.select(wanted).sort("timestamp_ms").collect()
    except polars.exceptions.PolarsError as e:
        raise BadInput(f"{path} cannot be read as parquet: {str(e).splitlines()[0]}") from e
    for row in frame.iter_rows(named=True):
        event = {name: value for name, value in row.items() if value is not None}
        event.setdefault("event_id", f"{row['user_id']}:{row['video_id']}:{row['timestamp_ms']}")
        yield msgspec.json.encode(event)


def _batched(events: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while batch := list(itertools.islice(events, size)):
        yield batch


def _resume(progress: Path | None, source: str) -> int:
    if progress is None or not progress.exists():
        return 0
    try:
        noted = json.loads(progress.read_bytes())
        if noted["source"] != source:
            raise BadInput(f"{progress} is about {noted['source']}, not {source}; name another file.")
        return int(noted["events"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadInput(f"{progress} is not a progress file; name another, or remove it.") from e


def _remember(progress: Path, source: str, done: int) -> None:
    draft = progress.with_name(progress.name + ".draft")
    draft.write_text(json.dumps({"source": source, "events": done}))
    draft.replace(progress)
