"""`python -m service replay`: sends events of a file through a running service, resumable."""

from __future__ import annotations

import codecs
import contextlib
import csv
import importlib
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

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
from models.signals import Signals
from service.client import Client, Refused, Retries, Unreachable
from service.wire import milliseconds

RETRIES: Final = Retries(tries=8, first_pause_s=0.5, longest_pause_s=30.0, budget=1.0)
"""Waits for a service that is away for half a minute at least. The budget protects a service from many
callers; here is one request at a time."""

OUTCOMES: Final = ("accepted", "duplicates", "merged", "rejected")
REASONS: Final = 5
"""Rejected events that are named one by one."""

REQUIRED: Final = ("user_id", "video_id", "timestamp_ms", "watch_time_s", "duration_s")
OPTIONAL: Final = (
    *FLAGS, "event_id", "tab", "author_id", "tag", "session_id", "device", "request_id", "position"
)  # fmt: skip

_FALSE_TRUE: Final = {"0": False, "false": False, "1": True, "true": True}
_WRITTEN_TIME: Final = re.compile(rb'"timestamp_ms"\s*:\s*"')

NumberedEvent = tuple[int, bytes]
"""Line or row of the source, from 1, and the event as JSON."""


class Saved(msgspec.Struct):
    """Content of a progress file."""

    source: str
    events: Annotated[int, msgspec.Meta(ge=0)]


class Totals:
    """What became of the events so far.

    Attributes:
        outcomes: events by outcome.
        codes: rejected events by code.
        reasons: of the first few rejected events, with their lines.
    """

    def __init__(self) -> None:
        self.outcomes = Counter(dict.fromkeys(OUTCOMES, 0))
        self.codes: Counter[str] = Counter()
        self.reasons: list[tuple[int, str]] = []

    def reject(self, line: int, code: str, detail: str) -> None:
        """Count a rejected event."""
        self.outcomes["rejected"] += 1
        self.codes[code] += 1
        self.reasons = sorted([*self.reasons, (line, f"line {line}: {code}: {detail}")])[:REASONS]


def replay(source: str, url: str, *, rate: float, batch: int, progress: Path | None, key: str = "") -> None:
    """Send every event and print the number of each outcome, and why the first ones were rejected.

    Args:
        source: NDJSON or CSV, in a file or `-` for standard input, or a `.parquet` file as `prepare` writes
            it. Where rows have no `event_id`, user, video and time make one, so that replaying twice changes
            nothing. Times may be ISO 8601, or a column of datetimes; without a zone they are UTC.
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
        SystemExit: with code 1, when an event was rejected.
    """
    acknowledged = _resume(progress, source)
    events = itertools.islice(_events(source), acknowledged, None)
    totals = Totals()
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
            _send(client, lines, totals)
            sent += len(lines)
            if progress is not None:
                _save(progress, source, acknowledged + sent)
            bar.update(task, completed=acknowledged + sent)
    took_s = time.monotonic() - started
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in totals.outcomes.items())
    print(f"{sent} events in {took_s:.1f} s ({sent / max(took_s, 1e-9):.0f}/s): {outcomes}")
    if totals.codes:
        codes = ", ".join(f"{count} {code}" for code, count in totals.codes.most_common())
        print("\n".join([*(reason for _, reason in totals.reasons), f"rejected: {codes}"]), file=sys.stderr)
        sys.exit(1)


def _require_service(client: Client) -> None:
    """Fail at once for a wrong address; a service that goes away later is waited for."""
    try:
        client.health()
    except Unreachable as e:
        raise BadInput(f"{e} Start one: make serve.") from e


def _send(client: Client, events: list[NumberedEvent], totals: Totals) -> None:
    """Send one batch. If a line that is not JSON spoils it, send the others."""
    try:
        (reply,) = client.label_all([event for _, event in events], batch=len(events))
    except Refused as e:
        if e.problem.status != HTTPStatus.BAD_REQUEST:
            raise
        valid = {line for line, event in events if _is_json(event)}
        if len(valid) == len(events):
            if len(events) > 1:
                raise
            valid = set()  # JSON for Python, and not for the service, which is stricter
        for line, event in events:
            if line not in valid:
                totals.reject(line, "malformed", f"{event[:40].decode(errors='replace')!r} is not JSON.")
        if valid:
            _send(client, [(line, event) for line, event in events if line in valid], totals)
        return
    totals.outcomes.update(accepted=reply.accepted, duplicates=reply.duplicates, merged=reply.merged)
    for rejected in reply.rejected:
        totals.reject(events[rejected.index][0], rejected.code, rejected.detail)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _events(source: str) -> Iterator[NumberedEvent]:
    path = Path(source)
    if source == "-":
        yield from _text_events(sys.stdin.buffer, source)
    elif not path.is_file():
        raise BadInput(
            f"{source} is not a file; name an NDJSON, CSV or parquet file, or - for standard input."
        )
    elif path.suffix == ".parquet":
        yield from _parquet_events(path)
    else:
        with path.open("rb") as file:
            yield from _text_events(file, source)


def _text_events(file: Iterable[bytes], source: str) -> Iterator[NumberedEvent]:
    """Yield the events of NDJSON, or of CSV, whose first line names its columns."""
    lines = iter(file)
    first = next(lines, b"").removeprefix(codecs.BOM_UTF8)
    lines = itertools.chain([first], lines)
    if {b"user_id", b"video_id"} <= {name.strip(b' "') for name in first.strip().split(b",")}:
        yield from _csv_events(lines, source)
        return
    for number, line in enumerate(map(bytes.strip, lines), 1):
        if line:
            yield number, _with_milliseconds(line) if _WRITTEN_TIME.search(line) else line


def _csv_events(lines: Iterable[bytes], source: str) -> Iterator[NumberedEvent]:
    rows = csv.DictReader((line.decode("utf-8") for line in lines), skipinitialspace=True)
    try:
        _check_columns(rows.fieldnames or (), source)
        for row in rows:
            members = {name: _cell(name, row[name]) for name in (*REQUIRED, *OPTIONAL) if row.get(name)}
            yield rows.line_num, _from_row(members)
    except (UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"{source}, after line {rows.line_num}, cannot be read as CSV: {e}.") from None


def _cell(name: str, text: str) -> Any:
    """Return a cell of CSV as JSON has it; a text that is none is left for the service to reject."""
    if name in FLAGS:
        return _FALSE_TRUE.get(text.lower(), text)
    if name in ("timestamp_ms", "watch_time_s", "duration_s", "position") and _is_json(text.encode()):
        return json.loads(text)
    return text


def _parquet_events(path: Path) -> Iterator[NumberedEvent]:
    """Yield rows as events, oldest first. polars reads them, which serving does not install.

    Columns of own signals are those that a `dataset.json` beside the file declares, as `prepare` writes it.
    """
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
        _check_columns(names, str(path))
        signals = _declared_signals(path.with_name("dataset.json"))
        columns = [name for name in (*REQUIRED, *OPTIONAL, *signals) if name in names]
        frame = rows.select(columns).with_row_index("line", 1).sort("timestamp_ms").collect()
    except polars.exceptions.PolarsError as e:
        raise BadInput(f"{path} cannot be read as parquet: {str(e).splitlines()[0]}") from e
    for row in frame.iter_rows(named=True):
        line = row.pop("line")
        if said := {name: value for name in signals if (value := row.pop(name, None))}:
            row["signals"] = said
        yield line, _from_row({name: value for name, value in row.items() if value is not None})


def _declared_signals(info: Path) -> tuple[str, ...]:
    if not info.is_file():
        return ()
    try:
        return Signals.model_validate(json.loads(info.read_bytes()).get("signals", {})).names
    except (OSError, ValueError, AttributeError) as e:
        raise BadInput(f"{info} cannot be read: {str(e).splitlines()[0]}.") from None


def _check_columns(names: Sequence[str], source: str) -> None:
    if missing := [name for name in REQUIRED if name not in names]:
        raise BadInput(f"{source} has no column {missing[0]!r}; it has {', '.join(names)}.")


def _from_row(members: dict[str, Any]) -> bytes:
    """Return a row as an event, with an id."""
    members = _in_milliseconds(members)
    identity = (members.get(name) for name in ("user_id", "video_id", "timestamp_ms"))
    return msgspec.json.encode({"event_id": ":".join(map(str, identity))} | members)


def _with_milliseconds(line: bytes) -> bytes:
    try:
        return msgspec.json.encode(_in_milliseconds(json.loads(line)))
    except (ValueError, RecursionError):
        return line  # for the service to reject


def _in_milliseconds(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members with a time that is text or a datetime as Unix milliseconds."""
    moment = members.get("timestamp_ms")
    if isinstance(moment, datetime):
        moment = moment.isoformat()
    if isinstance(moment, str):
        with contextlib.suppress(ValueError):  # the service names what is wrong with it
            return members | {"timestamp_ms": milliseconds(moment)}
    return members


def _resume(progress: Path | None, source: str) -> int:
    if progress is None or not progress.exists():
        return 0
    try:
        saved = msgspec.json.decode(progress.read_bytes(), type=Saved)
    except (OSError, ValueError) as e:
        raise BadInput(f"{progress} is not a progress file; name another, or remove it.") from e
    if saved.source != source:
        raise BadInput(f"{progress} is of {saved.source}, not of {source}; name another file.")
    return saved.events


def _save(progress: Path, source: str, events: int) -> None:
    draft = progress.with_name(progress.name + ".draft")
    draft.write_bytes(msgspec.json.encode(Saved(source, events)))
    draft.replace(progress)
