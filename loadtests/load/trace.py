"""Recorded traffic: a file of requests, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loadtests.client import post
from models.errors import BadInput


def read_trace(path: Path) -> list[bytes]:
    """Return the requests of a recording in its order.

    Args:
        path: lines of `{"path": "/rerank", "body": {…}}`; empty lines are skipped.

    Raises:
        BadInput: it cannot be read, holds no request, or has another line.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"The trace {path} cannot be read: {e}.") from None
    requests = [_request(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not requests:
        raise BadInput(f'{path} holds no request. A line is {{"path": "/rerank", "body": {{…}}}}.')
    return requests


def _request(line: str, position: str) -> bytes:
    try:
        content: Any = json.loads(line)
    except ValueError as e:
        raise BadInput(f"{position} is not JSON: {e}.") from None
    path = content.get("path") if isinstance(content, dict) else None
    if not isinstance(path, str) or not path.startswith("/") or set(content) != {"path", "body"}:
        raise BadInput(
            f'{position} must be {{"path": "/rerank", "body": {{…}}}} and nothing else, got {line[:80]!r}.'
        )
    if not path.isascii() or not path.isprintable() or " " in path:
        raise BadInput(f"{position}: `path` must be that of a URL, percent-encoded, got {path[:80]!r}.")
    return post(path, json.dumps(content["body"]).encode())
