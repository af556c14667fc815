"""Good requests with bytes of them changed, sent over real HTTP: no answer is a fault of the service's."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import quote, urlsplit

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.targets import Target, targets
from tests.service.bodies import UNREADABLE

TIMEOUT_S: Final = 20.0

PIECES: Final = (
    b"", b"\x00", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\ud800",
    b"\n", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"null", b"true", b"9" * 30, b'"' + b"x" * 300 + b'"',
    *UNREADABLE.values(), b"\xef\xbb\xbf", b"[" * 2000, b"{}", b"[]", b"[[1]]", b"1.5", b'""', b'"\\u0000"',
)  # fmt: skip
"""What parsers and rules stumble over."""

HEADERS: Final = (
    "X-Deadline-Ms", "Inference-Header-Content-Length", "X-Request-Id", "Authorization", "Content-Type",
    "Content-Encoding", "Origin", "Accept", "Expect", "Transfer-Encoding",
)  # fmt: skip
_PRINTABLE: Final = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
_VALUES: Final = st.sampled_from(["0", "-1", "1", "999999999999", "nan", "gzip", "*", ""]) | _PRINTABLE


@st.composite
def changed(draw: st.DrawFn, body: bytes) -> bytes:
    """The body after a few changes: pieces put in or over, stretches left out or repeated."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        length = draw(st.integers(0, 12) | st.just(len(body)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=6) | st.just(body[at : at + length] * 2))
        body = body[:at] + piece + body[at + length :]
    return body


@st.composite
def requests(draw: st.DrawFn, good: list[Target]) -> Target:
    """One of the targets, broken: mostly in its body, now and then in its path, query, method or headers."""
    target = draw(st.sampled_from(good))
    method, path, headers = target.method, target.path, dict(target.headers)
    match draw(st.integers(0, 9)):
        case 0:
            path += draw(
                st.binary(max_size=8).map(quote) | st.sampled_from(["/", "//", "%00", "%2F..", ";a"])
            )
        case 1:
            names = st.sampled_from(["explain", "labels", "store", "model", "x"])
            path += f"?{draw(names)}={quote(draw(st.binary(max_size=8)))}"
        case 2:
            method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]))
        case 3 | 4:
            headers[draw(st.sampled_from(HEADERS[:-2]))] = draw(_VALUES)
    body = draw(changed(target.body)) if target.body else draw(st.sampled_from([b"", b"{}"]))
    return Target(method, path, tuple(headers.items()), body)


class Sender:
    """One connection, opened again where the service has closed it; counts what came back.

    Args:
        url: of the service.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        self.statuses: Counter[int] = Counter()

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def send(self, request: Target) -> None:
        """Send it and look at the answer.

        Raises:
            AssertionError: see `look`.
        """
        try:
            self._once(request)
        except (HTTPException, ConnectionError):  # closed after an answer that ends a connection
            self._connection.close()
            self._once(request)

    def _once(self, request: Target) -> None:
        connection = self._connection
        connection.request(request.method, request.path, request.body, dict(request.headers))
        reply = connection.getresponse()
        content = reply.read()
        self.statuses[reply.status] += 1
        if reply.will_close:
            connection.close()
        look(request, reply.status, reply.headers["Content-Type"] or "", content)


def look(request: Target, status: int, content_type: str, content: bytes) -> None:
    """Whether an answer may be.

    Raises:
        AssertionError: it is a fault of the service's, or an error without a problem document.
    """
    kind = content_type.partition(";")[0]
    late = status == 503 and any(name == "X-Deadline-Ms" for name, _ in request.headers)
    assert status < 500 or late, (status, request, content)
    if request.method == "HEAD":
        return
    assert status < 400 or kind == "application/problem+json", (status, kind, request)
    if kind in ("application/json", "application/problem+json"):
        document: Any = json.loads(content)
        assert status < 400 or document["status"] == status, (request, content)


def many(cases: int) -> settings:
    """Return the settings of a search through that many cases, on any machine, which are not kept."""
    return settings(
        max_examples=cases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )


def send_broken(url: str, document: dict[str, Any], cases: int, number: int) -> Counter[int]:
    """Send that many broken requests and count the statuses.

    Args:
        url: of the service.
        document: its `/openapi.json`.
        cases: how many.
        number: the seed.

    Raises:
        AssertionError: see `look`; Hypothesis names the smallest such request it finds.
    """

    @seed(number)
    @many(cases)
    @given(request=requests(targets(document)))
    def no_fault(request: Target) -> None:
        sender.send(request)

    with closing(Sender(url)) as sender:
        no_fault()
    return sender.statuses
