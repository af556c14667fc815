"""HTTP/1.1 on the wire: uvicorn's protocol, strict in what it reads, bounded in time, orderly at the end.

* What is no HTTP, or has too much framing, never reaches the app; it gets a problem document, after the
  answers to the requests before it.
* A connection without a complete head is closed after a time, without an answer: there is no request.
* An answer that closes the connection waits for what the client is still sending, which is dropped: closed
  with bytes unread, the kernel would reset the connection and the answer would be lost.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import perf_counter
from types import SimpleNamespace
from typing import Any, Final, Literal

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.errors import PROBLEM_JSON
from service.http.request_context import FIXED, new_request_id
from service.telemetry.trace import Trace
from service.wire import Problem

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request's line and headers; and of chunk extensions and trailers without a byte of body between. The
longest id in a path, percent-encoded, is 768."""

_NOT_HTTP: Final = "This is not an HTTP/1.1 request with one Host, or its method or target is unreadable."
_TOO_MANY: Final = "This process has as many connections as it may open files for (ulimit -n)."
_TOO_LONG: Final = f"The request's line and headers, or its trailers, are longer than {MAX_HEAD_BYTES} bytes."


class StrictHttpProtocol(HttpToolsProtocol):
    """Refuses malformed and endless requests, and answers all others. Made by `with_limits`."""

    time_limit_s: float
    """For a head, from the connection's beginning or its own first byte; and for the rest of a body whose
    request has been answered."""

    max_connections: int
    """Open at a time; one more is refused. Without descriptors left nothing else could be opened."""

    _part: Literal["head", "body", "between"] = "head"
    """What comes next."""
    _framing_bytes = 0
    """Received since the bytes in which the head began, or in which some of the body came."""
    _answering: RequestResponseCycle | None = None
    """The request that the app works on; others wait in `pipeline`."""
    _refusal: tuple[HTTPStatus, str] | None = None
    """Of what came behind the last request; sent after that one's answer."""
    _discarding = False
    """Whatever comes is dropped, until the client hangs up."""
    _ended = False
    """The client sends nothing more, and may still read."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start the timer of the first head, or refuse a connection too many."""
        super().connection_made(transport)
        self._answers: Any = SimpleNamespace(
            write=transport.write, is_closing=transport.is_closing, close=self._close_orderly
        )
        if len(self.connections) > self.max_connections:
            self._ended = True  # nothing more is waited for: the descriptor is wanted
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, _TOO_MANY)
        else:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, until there is too much framing."""
        if self._discarding:
            return
        self._framing_bytes += len(data)
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._discarding or self.transport.is_closing():
            return
        if self._part != "between" and self._framing_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LONG)
            return
        if self._part != "head" and not (self.cycle and self.cycle.response_complete):
            self._cancel_timer()
        elif self._timer is None:
            self._start_timer()

    def _parse(self, data: bytes) -> None:
        """Feed the parser. What follows a head with `Upgrade` is no request to it, but Java's client has that
        header in its first one: such a head is fed again, without the header."""
        rest = memoryview(data)
        try:
            while rest:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as e:
                    rest, head = rest[e.args[0] :], self._head_without_upgrade()
                    self.parser = httptools.HttpRequestParser(self)  # the other is at an end after a close
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn
                    self.parser.feed_data(head)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("")

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"%s %s HTTP/%s\r\n%s\r\n" % (self.parser.get_method(), self.url, version, b"".join(lines))

    def on_message_begin(self) -> None:
        """Note the time at which the request began to arrive."""
        self._part, self._framing_bytes = "head", 0
        super().on_message_begin()
        self.scope["reelrank.arrived"] = perf_counter()  # type: ignore[typeddict-unknown-key]  # for `Trace`

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, and drop a trailer, which the app would take for one."""
        if self._part == "head":
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Require one Host: servers disagree about requests with none or several."""
        if sum(name == b"host" for name, _ in self.headers) != 1 and self.parser.get_http_version() == "1.1":
            raise ValueError("not one Host")  # the parser turns it into an error of its own
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return
        super().on_headers_complete()
        self._part, self._framing_bytes = "body", 0
        self.cycle.transport = self._answers

    def on_body(self, body: bytes) -> None:
        """Begin to count anew."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Let the next request begin."""
        if self.parser.should_upgrade():
            return
        self._part = "between"
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or refuse what came behind the last."""
        if self._discarding and self._refusal is None:  # the answer has closed the connection
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        self._send_refusal()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn closes in any case
        """Keep the connection of a client that has sent whole requests and waits for the answers."""
        self._ended = True
        if self._part == "body" or self.cycle is None or self.cycle.response_complete:
            return False
        if self._refusal is None:
            self.cycle.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the answer in progress, whichever of several requests it is of."""
        self._cancel_timer()
        self._give_up(self._answering)
        self.pipeline.clear()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Wait for an answer, and not for what would be dropped."""
        if self._discarding and self._refusal is None:
            self.transport.close()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer with a problem document and close: where the next request begins is unknown."""
        self._refuse(HTTPStatus.BAD_REQUEST, _NOT_HTTP)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Read no further, and refuse when the requests before are answered."""
        self._discarding = True
        if self._part == "body":  # of the last request, which will never be whole
            if self.cycle.response_started:
                self._hang_up()
                return
            self._give_up(self.cycle)
            if self.cycle is self._answering:
                self._answering = None
            else:
                self.pipeline.popleft()
            self._part = "between"
        self._refusal = status, detail
        self._send_refusal()

    def _send_refusal(self) -> None:
        """Send what is to be said of the bytes behind the last request, if that is answered."""
        answered = self._answering is None or self._answering.response_complete
        if self._refusal is None or not answered or self.transport.is_closing():
            return
        status, detail = self._refusal
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
        self._linger()

    def _close_orderly(self) -> None:
        """Close behind an answer, as soon as the client has sent what it began."""
        if self._part == "between" and not self._discarding:
            self.transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Drop what the client is still sending, until it hangs up or the time is over."""
        self._discarding, self._refusal = True, None
        if self._ended or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._cancel_timer()
        self._start_timer()

    def _hang_up(self) -> None:
        self._timer = None
        self._give_up(self._answering)
        self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.time_limit_s, self._hang_up)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @staticmethod
    def _give_up(cycle: RequestResponseCycle | None) -> None:
        """Drop the answer of a request, if it is not complete, and let the app know."""
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()


def with_limits(time_limit_s: float, max_connections: int) -> type[StrictHttpProtocol]:
    """Return the protocol with its limits set; uvicorn makes the instances."""
    limits = {"time_limit_s": time_limit_s, "max_connections": max_connections}
    return type("StrictHttpProtocol", (StrictHttpProtocol,), limits)
