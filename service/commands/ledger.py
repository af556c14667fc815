"""`python -m service ledger`: the users that the next training must leave out, and the served log, too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from models import ledger
from models.errors import BadInput
from service.served_log import ended_files
from service.settings import Settings
from service.unlearning.ledger import FILE
from service.wire import milliseconds


def export(since: str | None, *, as_json: bool) -> None:
    """Print the ledger of the data folder: each user once, at their last request, oldest first.

    Args:
        since: only requests from then on: a date or time in ISO 8601 (UTC without a zone), or Unix ms.
        as_json: print the lines that `python -m training prepare --forget` reads; otherwise a readable text.

    Raises:
        BadInput: `since` is not a time, or the ledger cannot be read.
    """
    path = Settings.read().data_dir / FILE
    since_ms = 0 if since is None else _milliseconds(since)
    last: dict[str, ledger.Entry] = {}
    for entry in _entries(path, since_ms):
        last[entry.user_id] = max(entry, last.get(entry.user_id, entry), key=lambda e: e.forgotten_at_ms)
    for entry in sorted(last.values(), key=lambda e: (e.forgotten_at_ms, e.user_id)):
        if as_json:
            print(msgspec.json.encode(entry).decode())
        else:
            time = datetime.fromtimestamp(entry.forgotten_at_ms / 1000, UTC)
            print(f"{time:%Y-%m-%dT%H:%M:%SZ}  {entry.user_id}")
    print(f"{len(last)} users in {path}", file=sys.stderr)


def purge(ledgers: Sequence[Path]) -> None:
    """Remove all lines of the ledger's users from the served log, and print what was removed.

    Args:
        ledgers: further ones.

    Raises:
        BadInput: there is no served log, a ledger or a file of the log cannot be read or written, or a
            service does not end a file that it writes.
    """
    settings = Settings.read()
    if settings.log_dir is None:
        raise BadInput("No served log is configured: set REELRANK_LOG_DIR as the service has it.")
    entries = _entries(settings.data_dir / FILE)
    for path in ledgers:
        entries += ledger.read(path)
    users = {entry.user_id for entry in entries}
    counts = list(ended_files.purge(settings.log_dir, users))
    print(f"{sum(counts)} lines of {len(users)} users removed from {len(counts)} files in {settings.log_dir}")


def _entries(path: Path, since_ms: int = 0) -> list[ledger.Entry]:
    """Return the entries of the service's own ledger. No file is an empty ledger: no user has asked to be
    forgotten yet. No folder is an error."""
    return ledger.read(path, since_ms=since_ms) if path.exists() or not path.parent.is_dir() else []


def _milliseconds(since: str) -> int:
    is_number = since.isdecimal() and len(since) > 8  # shorter ones are dates: 20261121
    try:
        since_ms = milliseconds(since if is_number or not since.isdecimal() else f"{since}T00")
    except ValueError:
        since_ms = -1
    if since_ms < (Settings.read().earliest_ms if is_number else 0):
        raise BadInput(
            f"--since {since[:40]!r} is not a time; write 2026-11-21, 2026-11-21T08:00:00Z or Unix "
            "milliseconds, not seconds."
        )
    return since_ms
