"""A small HTTP server that replies as a test wants."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from loadtests.client import NO_REPLY, Address


@contextmanager
def serve_replies(
    status: Callable[[int], int] = lambda number: 200,
    body: bytes = b"ok",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Address]:
    """Reply to request number i with `status(i)`; `NO_REPLY` closes the connection."""
    numbers = iter(range(10**9))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            code = status(next(numbers))
            if code == NO_REPLY:
                self.close_connection = True
                return
            self.send_response(code)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield "127.0.0.1", server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
