"""`python -m service ledger`: the users that the next training must leave out."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import msgspec

from models import ledger
from models.errors import BadInput
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
    # No file is an empty ledger: no user has asked to be forgotten yet. No folder is an error.
    if path.exists() or not path.parent.is_dir():
        for entry in ledger.read(path, since_ms=since_ms):
            last[entry.user_id] = max(entry, last.get(entry.user_id, entry), key=lambda e: e.forgotten_at_ms)
    for entry in sorted(last.values(), key=lambda e: (e.forgotten_at_ms, e.user_id)):
        if as_json:
            print(msgspec.json.encode(entry).decode())
        else:
            time = datetime.fromtimestamp(entry.forgotten_at_ms / 1000, UTC)
            print(f"{time:%Y-%m-%dT%H:%M:%SZ}  {entry.user_id}")
    print(f"{len(last)} users in {path}", file=sys.stderr)


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
