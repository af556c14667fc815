"""Exchanges by hand with a running service, and what tests look for in its answers."""

from __future__ import annotations

import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tests.service.running import event

JSON = {"content-type": "application/json"}


def is_problem(reply: httpx2.Response, status: int) -> bool:
    """Whether it is the RFC 9457 document of this status."""
    if reply.headers["content-type"] != "application/problem+json":
        return False
    document = reply.json()
    named = {"type", "title", "status", "detail"} <= set(document) and document["detail"]
    return bool(named and document["status"] == reply.status_code == status)


def metric(client: httpx2.Client, name: str) -> float:
    """The value of a series of /metrics; 0 while it does not exist."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def line(event_id: str, user: str, **members: Any) -> bytes:
    """An event as a line of NDJSON, without its end."""
    return json.dumps(event(event_id, user, **members)).encode()


def head(length: int) -> bytes:
    """The head of POST /label with a JSON body of that length."""
    json_body = f"content-type: application/json\r\ncontent-length: {length}\r\n"
    return f"POST /label HTTP/1.1\r\nhost: x\r\n{json_body}\r\n".encode()


class Dialogue:
    """An HTTP/1.1 exchange by hand, so that the answer can be read while the body is unfinished."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        assert where.hostname is not None
        self._socket = socket.create_connection((where.hostname, where.port or 80), timeout=60)
        self._in = self._socket.makefile("rb")
        self._socket.sendall(
            b"POST /label HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    def say(self, data: bytes) -> None:
        self._socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def headers(self) -> bytes:
        return b"".join(iter(self._in.readline, b"\r\n"))

    def hear(self) -> list[dict[str, Any]]:
        """The lines of the next chunk; none at the end."""
        size = int(self._in.readline(), 16)
        chunk = self._in.read(size + 2)[:-2]
        return [json.loads(text) for text in chunk.splitlines()]

    def end(self) -> None:
        self._socket.sendall(b"0\r\n\r\n")

    def close(self) -> None:
        self._in.close()
        self._socket.close()
