"""Requests that are not even HTTP, or whose head has no end: they never reach the app, and have the same kind
of answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.errors import PROBLEM_JSON
from service.http.request_context import FIXED, new_request_id
from service.telemetry.trace import Trace
from service.wire import Problem

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a request's line and headers. The longest id in a path, percent-encoded, is 768."""

_NOT_HTTP: Final = (
    "This is not a request of HTTP/1.1 with one Host, or its method or target is none that we read."
)
_TOO_LONG: Final = f"The request's line and headers are longer than {MAX_HEAD_BYTES} bytes."


class Protocol(HttpToolsProtocol):
    """uvicorn's, but for what it says to a request it cannot parse, and that a head must end.

    Attributes:
        head_bytes: received of an unfinished head since the bytes it began in; -1 while there is none.
    """

    head_bytes = -1

    def data_received(self, data: bytes) -> None:
        """Feed the parser. What arrives after the head is counted elsewhere."""
        if self.head_bytes >= 0:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LONG)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A head begins."""
        self.head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It has ended. A request whose addressee is unclear is read differently by different servers."""
        self.head_bytes = -1
        if sum(name == b"host" for name, _ in self.headers) != 1 and self.parser.get_http_version() == "1.1":
            raise ValueError("not one Host")  # the parser makes it an error of its own
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer with a problem document and hang up: where the next request begins cannot be known."""
        self._refuse(HTTPStatus.BAD_REQUEST, _NOT_HTTP)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        trace = Trace(new_request_id())
        problem = Problem(type="about:blank", title=status.phrase, status=status, detail=detail)
        body = msgspec.json.encode(problem)
        fixed = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in FIXED)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"content-type: {PROBLEM_JSON}\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-request-id: {trace.request_id}\r\n"
            f"server-timing: {trace.server_timing().decode()}\r\n"
            f"{fixed}"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
