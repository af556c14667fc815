"""Recorded traffic: a file of requests, one JSON object a line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from loadtests.client import post
from models.errors import BadInput


class _RecordedRequest(msgspec.Struct, forbid_unknown_fields=True):
    path: Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*$")]
    body: msgspec.Raw


def read_trace(path: Path) -> list[bytes]:
    """Return the requests of a recording in its order.

    Args:
        path: lines of `{"path": "/rerank", "body": {…}}`, paths percent-encoded; empty lines are skipped.

    Raises:
        BadInput: it cannot be read, holds no request, or has another line.
    """
    requests = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as e:
        raise BadInput(f"The trace {path} cannot be read: {e}.") from None
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                request = msgspec.json.decode(line, type=_RecordedRequest)
                requests.append(post(request.path, bytes(request.body)))
        except msgspec.MsgspecError as e:
            raise BadInput(f'{path}:{number} is not {{"path": "/rerank", "body": {{…}}}}: {e}.') from None
    if not requests:
        raise BadInput(f'{path} holds no request. A line is {{"path": "/rerank", "body": {{…}}}}.')
    return requests
