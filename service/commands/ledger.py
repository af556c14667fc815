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
    """Print the ledger of the data folder: each user, and what else it names, once, at the last request,
    oldest first.

    Args:
        since: only requests from then on: a date or time in ISO 8601 (UTC without a zone), or Unix ms.
        as_json: print the lines that `python -m training prepare --forget` reads; otherwise a readable text.

    Raises:
        BadInput: `since` is not a time, or the ledger cannot be read.
    """
    path = Settings.read().data_dir / FILE
    since_ms = 0 if since is None else _milliseconds(since)
    last: dict[tuple[tuple[str, str | int], ...], ledger.Entry] = {}
    for entry in _entries(path, since_ms):
        key = tuple(entry.ids.items())
        last[key] = max(entry, last.get(key, entry), key=lambda e: e.forgotten_at_ms)
    for key, entry in sorted(last.items(), key=lambda item: (item[1].forgotten_at_ms, str(item[0]))):
        if as_json:
            print(msgspec.json.encode(entry).decode())
        else:
            time = datetime.fromtimestamp(entry.forgotten_at_ms / 1000, UTC)
            named = entry.user_id if entry.is_of_a_user else " ".join(f"{name}={v}" for name, v in key)
            print(f"{time:%Y-%m-%dT%H:%M:%SZ}  {named}")
    users = sum(entry.is_of_a_user for entry in last.values())
    others = f" and {len(last) - users} other entries" if len(last) > users else ""
    print(f"{users} users{others} in {path}", file=sys.stderr)


def purge(ledgers: Sequence[Path]) -> None:
    """Remove all lines of the ledger's users from the served log, and print what was removed.

    What the ledger names besides users is for training alone.

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
    users = {entry.user_id for entry in entries if entry.user_id is not None and entry.is_of_a_user}
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
