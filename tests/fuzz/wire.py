"""Bytes as they come on a connection: several requests, garbage behind them, clients that stop half-way."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from typing import Any, Final
from urllib.parse import urlsplit

from hypothesis import given, seed
from hypothesis import strategies as st

from tests.fuzz.broken import TIMEOUT_S, changed, many
from tests.service.bodies import UNREADABLE
from tests.service.running import event


def request(method: str, path: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """A request whose body has the length that it announces, or another."""
    kind = "application/json" if "X-Kind: ndjson" not in headers else "application/x-ndjson"
    announced = len(body) if length is None else length
    head = (f"{method} {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", *headers)
    return "\r\n".join([*head, f"Content-Length: {announced}", "", ""]).encode() + body


def chunked(path: str, *chunks: bytes, trailer: bytes = b"") -> bytes:
    """A POST whose body comes in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailer + b"\r\n"


def _with(value: bytes, document: Any) -> bytes:
    """The document as JSON, with the value where it says BAD."""
    return json.dumps(document).encode().replace(b'"BAD"', value)


_EVENT: Final = json.dumps(event("wire", "wire")).encode()
_POST: Final = request("POST", "/label", _EVENT)
_READY: Final = request("GET", "/health/ready")
_FIELDS: Final = [{"name": "watch_time_s", "value": "BAD"}, {"name": "duration_s", "value": 24.0}]
_FEEDBACK: Final = {"event": "interaction", "id": "i", "timestamp": 1_651_330_969_569, "user": "u"}
_WATCH: Final = _FEEDBACK | {"type": "watch", "item": "v", "fields": _FIELDS}
_TENSOR: Final = {"name": "feedback", "shape": [1, 8], "datatype": "FP32", "data": ["BAD", *[1] * 7]}
SEEDS: Final = (
    _READY * 2 + b"BAD\r\n\r\n",
    _POST + b"garbage\r\n\r\n",
    _POST * 3 + _READY,
    _POST + request("POST", "/label", _EVENT, length=9999),
    request("POST", "/label", b" " * 9999, length=99_999_999) + b" " * 9999,
    chunked("/label", b"[", _EVENT, b"]", trailer=b"Authorization: Bearer k\r\n"),
    chunked("/label", b"[]", trailer=b"X: " + b"x" * 300_000 + b"\r\n") + _READY,
    chunked("/label", b"[]").replace(b"2\r\n", b"2;" + b"x" * 300_000 + b"\r\n"),
    chunked("/label", b"[]").replace(b"2\r\n", b"zz\r\n"),
    request("POST", "/label", _EVENT + b"\n\n{\n" + _EVENT, "X-Kind: ndjson"),
    request("HEAD", "/health/ready") + request("HEAD", "/metrics") + request("HEAD", "/users/a/sequence"),
    *(request("DELETE", f"/users/{name}") for name in ("sequence", "a/sequence", "%2e%2e", "%73equence")),
    *(request("GET", path) for path in ("/users/a%2Fsequence", "/%6detrics", "/%761/models", "//metrics")),
    *(
        request("POST", path, _with(value, document))
        for value in UNREADABLE.values()
        for path, document in (
            ("/label", [event(), event("e2", like="BAD")]),
            ("/feedback", [_WATCH]),
            ("/rank/default", {**_FEEDBACK, "items": [{"id": "v", "fields": _FIELDS}]}),
            ("/v2/models/labeler/infer", {"inputs": [_TENSOR]}),
        )
    ),
    request("POST", "/v2/models/labeler/infer", _with(b'"\\ud800"', {"id": "BAD", "inputs": [_TENSOR]})),
    request("POST", "/label", json.dumps(event(timestamp_ms=1_651_330_969)).encode()),
    request("POST", "/feedback", json.dumps(_WATCH | {"event": "metadata", "fields": []}).encode()),
    request("POST", "/label", b"\xef\xbb\xbf" + _EVENT),
    request("POST", "/rerank", b"{}", "Expect: 100-continue", "X-Deadline-Ms: 1e300", "Connection: close"),
    request("GET", "/health/live", b"", "Upgrade: websocket", "Connection: Upgrade") + _READY,
)  # fmt: skip
"""Each broke something once, or is like one that did."""


def send(url: str, data: bytes) -> list[int]:
    """Send bytes on a connection of their own, stop sending, and return the statuses of the answers.

    Raises:
        AssertionError: see `statuses`.
    """
    where = urlsplit(url)
    answers = b""
    with socket.create_connection((where.hostname or "", where.port or 80), timeout=TIMEOUT_S) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answers += part
        except TimeoutError:
            raise
        except OSError:  # it was closed while we were still sending
            pass
    return statuses(data, answers)


def statuses(data: bytes, answers: bytes) -> list[int]:
    """Return the statuses of the answers to some bytes.

    Raises:
        AssertionError: one is a fault of the service's, or an error without a problem document.
    """
    found = []
    for answer in re.split(rb"(?=HTTP/1\.1 \d{3} )", answers)[1:]:
        status = int(answer[9:12])
        late = status == 503 and b"x-deadline-ms" in data.lower()
        assert status < 500 or late, (status, data, answer)
        assert status < 400 or b"content-type: application/problem+json" in answer, (data, answer)
        found.append(status)
    return found


def send_changed(url: str, cases: int, number: int) -> Counter[int]:
    """Send every seed, then so many changed ones, and count the statuses.

    Raises:
        AssertionError: see `statuses`; Hypothesis names the smallest such bytes it finds.
    """
    counts: Counter[int] = Counter()

    @seed(number)
    @many(cases)
    @given(data=st.sampled_from(SEEDS).flatmap(changed))
    def no_fault(data: bytes) -> None:
        counts.update(send(url, data))

    for data in SEEDS:
        counts.update(send(url, data))
    no_fault()
    return counts
