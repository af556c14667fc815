"""`python -m service replay`: sends events of a file through a running service, resumable."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
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

RETRIES: Final = Retries(tries=8, first_pause_s=0.5, longest_pause_s=30.0, budget=1.0)
"""Waits for a service that is away for half a minute at least. The budget protects a service from many
callers; here is one request at a time."""

OUTCOMES: Final = ("accepted", "duplicates", "merged", "rejected")

REQUIRED: Final = ("user_id", "video_id", "timestamp_ms", "watch_time_s", "duration_s")
OPTIONAL: Final = (*FLAGS, "event_id", "tab", "author_id", "tag", "session_id", "device")


def replay(source: str, url: str, *, rate: float, batch: int, progress: Path | None, key: str = "") -> None:
    """Send every event and print the number of each outcome.

    Args:
        source: an NDJSON file, `-` for standard input, or a `.parquet` file as `prepare` writes it. Its rows
            have no `event_id`; user, video and time make one, so that replaying twice changes nothing.
        url: of the service.
        rate: events/s; 0 is no limit.
        batch: events per request.
        progress: file with the number of events of `source` that are acknowledged. It is written after each
            batch, so an interrupted replay repeats one batch at most.
        key: API key with the right `label`.

    Raises:
        BadInput: the file cannot be read, or no service answers.
        ServiceError: the service refuses the requests as such, or cannot store the events for longer than the
            retries last.
        Unreachable: the service went away, for longer than the retries last.
    """
    acknowledged = _resume(progress, source)
    events = itertools.islice(_events(source), acknowledged, None)
    counts = dict.fromkeys(OUTCOMES, 0)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with (
        Client(url, key=key, timeout_s=30.0, retries=RETRIES) as client,
        Progress(*columns, console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task("events", total=None, completed=acknowledged)
        started, sent = time.monotonic(), 0
        while lines := list(itertools.islice(events, batch)):
            if not sent:
                _require_service(client)
            if rate:
                time.sleep(max(0.0, started + sent / rate - time.monotonic()))
            for outcome, count in _send(client, lines).items():
                counts[outcome] += count
            sent += len(lines)
            if progress is not None:
                _save(progress, source, acknowledged + sent)
            bar.update(task, completed=acknowledged + sent)
    took_s = time.monotonic() - started
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    print(f"{sent} events in {took_s:.1f} s ({sent / max(took_s, 1e-9):.0f}/s): {outcomes}")


def _require_service(client: Client) -> None:
    """Fail at once for a wrong address; a service that goes away later is waited for."""
    try:
        client.health()
    except Unreachable as e:
        raise BadInput(f"{e} Start one: make serve.") from e


def _send(client: Client, lines: list[bytes]) -> dict[str, int]:
    """Send one batch. If a line that is not JSON spoils it, send the others."""
    try:
        (reply,) = client.label_all(lines, batch=len(lines))
    except Refused as e:
        if e.problem.status != HTTPStatus.BAD_REQUEST:
            raise
        valid = [line for line in lines if _is_json(line)]
        if len(valid) == len(lines):
            if len(lines) > 1:
                raise
            valid = []  # JSON for Python, and not for the service, which is stricter
        counts = _send(client, valid) if valid else dict.fromkeys(OUTCOMES, 0)
        counts["rejected"] += len(lines) - len(valid)
        return counts
    return dict(
        zip(OUTCOMES, (reply.accepted, reply.duplicates, reply.merged, len(reply.rejected)), strict=True)
    )


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _events(source: str) -> Iterator[bytes]:
    """Yield one JSON object per event."""
    path = Path(source)
    if source == "-":
        yield from filter(None, map(bytes.strip, sys.stdin.buffer))
    elif not path.is_file():
        raise BadInput(f"{source} is not a file; name an NDJSON or parquet file, or - for standard input.")
    elif path.suffix == ".parquet":
        yield from _parquet_events(path)
    else:
        with path.open("rb") as file:
            yield from filter(None, map(bytes.strip, file))


def _parquet_events(path: Path) -> Iterator[bytes]:
    """Yield rows as events, oldest first. polars reads them, which serving does not install."""
    try:
        polars = importlib.import_module("polars")
    except ImportError:
        raise BadInput(
            f"Reading {path} needs polars, which serving does not install: pip install 'polars>=2.1', "
            "or convert the events to NDJSON."
        ) from None
    try:
        rows = polars.scan_parquet(path)
        names = rows.collect_schema().names()
        if missing := [name for name in REQUIRED if name not in names]:
            raise BadInput(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}.")
        columns = [name for name in (*REQUIRED, *OPTIONAL) if name in names]
        frame = rows.select(columns).sort("timestamp_ms").collect()
    except polars.exceptions.PolarsError as e:
        raise BadInput(f"{path} cannot be read as parquet: {str(e).splitlines()[0]}") from e
    for row in frame.iter_rows(named=True):
        event = {name: value for name, value in row.items() if value is not None}
        event.setdefault("event_id", f"{row['user_id']}:{row['video_id']}:{row['timestamp_ms']}")
        yield msgspec.json.encode(event)


def _resume(progress: Path | None, source: str) -> int:
    if progress is None or not progress.exists():
        return 0
    try:
        saved = json.loads(progress.read_bytes())
        if saved["source"] != source:
            raise BadInput(f"{progress} is of {saved['source']}, not of {source}; name another file.")
        return int(saved["events"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadInput(f"{progress} is not a progress file; name another, or remove it.") from e


def _save(progress: Path, source: str, events: int) -> None:
    draft = progress.with_name(progress.name + ".draft")
    draft.write_text(json.dumps({"source": source, "events": events}))
    draft.replace(progress)
