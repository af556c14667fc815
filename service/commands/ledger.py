"""`python -m service ledger`: who must be forgotten by what is trained next."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

import msgspec

from models import ledger
from models.errors import BadInput
from service.settings import Settings
from service.unlearning.ledger import FILE

_encode: Final = msgspec.json.Encoder().encode


def export(since: str | None, *, as_json: bool) -> None:
    """Print the ledger of the data folder. Each user once, at their last request, oldest first.

    Args:
        since: only requests from then on: a date or a time of ISO 8601 (UTC if it names no zone), or Unix
            milliseconds.
        as_json: the lines that `python -m training prepare --forget` reads; otherwise a line for people.

    Raises:
        BadInput: `since` is no time, or the ledger cannot be read.
    """
    path = Settings.read().data_dir / FILE
    since_ms = 0 if since is None else _ms(since)
    last: dict[str, ledger.Entry] = {}
    # Nobody has asked to be forgotten until the first one has: no file is an empty ledger, no folder is not.
    if path.exists() or not path.parent.is_dir():
        for entry in ledger.read(path, since_ms=since_ms):
            last[entry.user_id] = max(entry, last.get(entry.user_id, entry), key=lambda e: e.forgotten_at_ms)
    for entry in sorted(last.values(), key=lambda e: (e.forgotten_at_ms, e.user_id)):
        if as_json:
            sys.stdout.write(_encode(entry).decode() + "\n")
        else:
            when = datetime.fromtimestamp(entry.forgotten_at_ms / 1000, UTC)
            sys.stdout.write(f"{when:%Y-%m-%dT%H:%M:%SZ}  {entry.user_id}\n")
    print(f"{len(last)} users in {path}", file=sys.stderr)


def _ms(since: str) -> int:
    if since.isdecimal() and len(since) > 8:  # shorter ones are dates: 20261121
        return int(since)
    try:
        when = datetime.fromisoformat(since)
        return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadInput(
            f"--since {since!r} is no time; write 2026-11-21, 2026-11-21T08:00:00Z or Unix milliseconds."
        ) from None
