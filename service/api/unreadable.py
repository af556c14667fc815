"""Requests that are not even HTTP: they never reach the app, and have the same kind of answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.edge import new_request_id
from service.api.errors import PROBLEM_JSON
from service.api.wire import Problem
from service.telemetry.trace import Trace

_DETAIL: Final = "This is not a request of HTTP/1.1, or its method or target is none that we read."


class Protocol(HttpToolsProtocol):
    """uvicorn's, but for what it says to a request it cannot parse."""

    def send_400_response(self, msg: str) -> None:
        """Answer with a problem document and hang up: where the next request begins cannot be known."""
        status = HTTPStatus.BAD_REQUEST
        trace = Trace(new_request_id())
        problem = Problem(type="about:blank", title=status.phrase, status=status, detail=_DETAIL)
        body = msgspec.json.encode(problem)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"content-type: {PROBLEM_JSON}\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-request-id: {trace.request_id}\r\n"
            f"server-timing: {trace.server_timing().decode()}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
