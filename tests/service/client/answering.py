"""A small HTTP server with prepared answers, for what the real service does only on bad days."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """One answer; status 0 breaks the connection without any."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Answering:
    """Its requests, and its answers: one after the other, then the last for ever."""

    url: str
    answers: list[Answer]
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextlib.contextmanager
def answering(*answers: Answer) -> Iterator[Answering]:
    """It runs in a thread."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name: str) -> Callable[[], None]:
            """`do_GET` and its like."""
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            lowered = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append((self.command, self.path, lowered))
            reply = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            if not reply.status:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in ({"content-length": str(len(reply.body))} | reply.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            """Write no log."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        state = Answering(f"http://127.0.0.1:{server.server_address[1]}", list(answers))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
