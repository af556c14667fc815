"""`python -m service replay`: events from a file through a running service, resumable."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx2
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

from models.errors import BadInput, StoreUnavailable
from models.schema import FLAGS

TRIES: Final = 8
"""Times one batch is sent before replay gives up; sending again is safe, events are idempotent."""

FIRST_PAUSE_S: Final = 0.25
"""Before the second try; doubles with every further one."""

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
        BadInput: the file cannot be read, the service is not there or refuses the requests as such.
        StoreUnavailable: the service went away or could not store the events, for longer than we wait.
    """
    done = _resume(progress, source)
    events = itertools.islice(_events(source), done, None)
    counts = dict.fromkeys(("accepted", "duplicates", "merged", "rejected"), 0)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with (
        httpx2.Client(base_url=url, headers=headers, timeout=30.0) as client,
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


def _reach(client: httpx2.Client) -> None:
    """A service that goes away is waited for; one that was never there is a wrong address."""
    try:
        client.get("/health/live")
    except (httpx2.TransportError, httpx2.InvalidURL) as e:
        raise BadInput(f"No service answers at {client.base_url}: {e}. Start one: make serve.") from e


def _send(client: httpx2.Client, lines: list[bytes]) -> dict[str, int]:
    """One batch, again while the service says that it may be sent again."""
    body = b"[" + b",".join(lines) + b"]"
    pause_s = FIRST_PAUSE_S
    for attempt in range(1, TRIES + 1):
        try:
            reply = client.post("/label", content=body, headers={"content-type": "application/json"})
        except httpx2.TransportError as e:
            if attempt == TRIES:
                raise StoreUnavailable(f"The service at {client.base_url} is gone: {e}.") from e
        else:
            if reply.status_code in (200, 409, 422):
                return _counted(reply.json(), len(lines))
            if reply.status_code == 400:
                return _without_unreadable(client, lines, reply)
            if reply.status_code not in (429, 503):
                _refused(reply)
            if attempt == TRIES:
                raise StoreUnavailable(f"The service goes on refusing: {_detail(reply)}")
        time.sleep(pause_s)
        pause_s *= 2
    raise AssertionError("the last try returns or raises")


def _without_unreadable(client: httpx2.Client, lines: list[bytes], reply: httpx2.Response) -> dict[str, int]:
    """A line that is no JSON spoils its batch: the others are sent without it."""
    if len(lines) == 1:
        return {"rejected": 1}
    good = [line for line in lines if _is_json(line)]
    if len(good) == len(lines):
        _refused(reply)
    counts = _send(client, good) if good else {}
    counts["rejected"] = counts.get("rejected", 0) + len(lines) - len(good)
    return counts


def _counted(reply: dict[str, Any], sent: int) -> dict[str, int]:
    if "labels" not in reply:  # a problem document: no event of the batch went through
        if "rejected" not in reply:
            raise BadInput(f"The service refuses the events: {reply.get('detail')}")
        return {"rejected": sent}
    counts = {outcome: int(reply[outcome]) for outcome in ("accepted", "duplicates", "merged")}
    return counts | {"rejected": len(reply["rejected"])}


def _refused(reply: httpx2.Response) -> NoReturn:
    raise BadInput(f"The service answers {reply.status_code}: {_detail(reply)}")


def _detail(reply: httpx2.Response) -> str:
    try:
        return str(reply.json().get("detail"))
    except ValueError:
        return reply.text[:200]


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
