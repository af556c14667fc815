"""HTTP/1.1 on the wire: uvicorn's protocol, stricter about heads and bounded in time.

* Requests that are no HTTP, or whose head is too long, never reach the app; they get a problem document too.
* A connection without a complete head is closed after a time, without an answer: there is no request.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import perf_counter
from typing import Final

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.errors import PROBLEM_JSON
from service.http.request_context import FIXED, new_request_id
from service.telemetry.trace import Trace
from service.wire import Problem

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request's line and headers. The longest id in a path, percent-encoded, is 768."""

_NOT_HTTP: Final = "This is not an HTTP/1.1 request with one Host, or its method or target is unreadable."
_TOO_MANY: Final = "This process has as many connections as it may open files for (ulimit -n)."
_TOO_LONG: Final = f"The request's line and headers are longer than {MAX_HEAD_BYTES} bytes."


class StrictHttpProtocol(HttpToolsProtocol):
    """Refuses malformed and endless heads with a problem document."""

    _head_bytes = -1
    """Received of an incomplete head since the bytes it began in; -1 while there is none."""

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the head is too long."""
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LONG)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Count the head's bytes."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Require one Host: servers disagree about requests with none or several."""
        self._head_bytes = -1
        if sum(name == b"host" for name, _ in self.headers) != 1 and self.parser.get_http_version() == "1.1":
            raise ValueError("not one Host")  # the parser turns it into an error of its own
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer with a problem document and close: where the next request begins is unknown."""
        self._refuse(HTTPStatus.BAD_REQUEST, _NOT_HTTP)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        trace = Trace(new_request_id())
        body = msgspec.json.encode(
            Problem(type="about:blank", title=status.phrase, status=status, detail=detail)
        )
        headers = [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", trace.request_id.encode()),
            (b"server-timing", trace.server_timing()),
            *FIXED,
            (b"connection", b"close"),
        ]
        head = b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode())
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(head + lines + b"\r\n" + body)
        self.transport.close()


class SlowClientProtocol(StrictHttpProtocol):
    """Closes connections whose head does not arrive in time, and notes when a request began to arrive.

    Between requests uvicorn's keep-alive time-out applies. Made by `with_limits`.
    """

    header_timeout_s: float
    """From the connection's beginning, or from the first byte of a later head, s."""
    max_connections: int
    """Open at a time; one more is refused. Without descriptors left nothing else could be opened."""
    _timer: asyncio.TimerHandle | None = None
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start the timer of the first head, or refuse a connection too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, _TOO_MANY)
        else:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and start a timer only for a head that has not arrived in one piece."""
        super().data_received(data)
        if not self._in_head:
            self._cancel_timer()
        elif self._timer is None and not self.transport.is_closing():
            self._start_timer()

    def on_message_begin(self) -> None:
        """Note the time at which the request began to arrive."""
        self._in_head = True
        super().on_message_begin()
        self.scope["reelrank.arrived"] = perf_counter()  # type: ignore[typeddict-unknown-key]  # for `Trace`

    def on_headers_complete(self) -> None:
        """Let the next `data_received` cancel the timer."""
        self._in_head = False
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        self._cancel_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.header_timeout_s, self._close)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


def with_limits(header_timeout_s: float, max_connections: int) -> type[SlowClientProtocol]:
    """Return the protocol with its limits set; uvicorn makes the instances."""
    limits = {"header_timeout_s": header_timeout_s, "max_connections": max_connections}
    return type("SlowClientProtocol", (SlowClientProtocol,), limits)
