"""Kept HTTP/1.1 connections that cost the driver little: bytes out, status and body length in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Final, cast

import httptools

GONE: Final = 0
"""Status of a request whose connection broke before it was answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    """`GONE` if nothing did."""
    at_s: float
    """When its last byte arrived, by `perf_counter`."""
    body: bytes


class Connection(asyncio.Protocol):
    """One connection, one request at a time. Use `connect`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._parts: list[bytes] = []

    @classmethod
    async def connect(cls, host: str, port: int) -> Connection:
        """Open one.

        Raises:
            OSError: nobody listens there.
        """
        _, protocol = await asyncio.get_running_loop().create_connection(cls, host, port)
        return protocol

    @property
    def open(self) -> bool:
        """Whether a request may be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a whole request; its answer is awaited on the result."""
        assert self._waiting is None, "one request at a time"
        waiting = self._waiting = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._parts = []
        if self._transport is None or self._transport.is_closing():
            self._done(GONE)
        else:
            self._transport.write(request)
        return waiting

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: it is open."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """asyncio's: bytes of an answer."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: it is closed, by whomever."""
        self._transport = None
        if self._waiting is not None:
            self._done(GONE)

    def on_body(self, body: bytes) -> None:
        """httptools': a part of the answer."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """httptools': the answer is whole."""
        keep = self._parser.should_keep_alive()
        self._done(self._parser.get_status_code())
        if not keep:
            self.close()

    def _done(self, status: int) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer(status, perf_counter(), b"".join(self._parts)))


PATIENT: Final = b"\r\nx-deadline-ms: 10000\r\n\r\n"


def patient(request: bytes) -> bytes:
    """The same with a deadline that a busy machine keeps, too: for what is timed one by one."""
    return request.replace(b"\r\n\r\n", PATIENT, 1)


def post(path: str, body: bytes, host: str = "loadtest", content_type: str = "application/json") -> bytes:
    """The bytes of one request."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {content_type}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
