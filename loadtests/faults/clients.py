"""Clients that hang up, dawdle, do not listen or send too much, while others want to be served."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from loadtests.faults.ledger import START_MS
from loadtests.faults.report import Row, spread
from loadtests.faults.stage import Scenario, Stage
from loadtests.machine import rss_mib

BIG: Final = 10 * 2**20
"""Bytes of a body that is five times what the service takes by default."""
PIECE: Final = b" " * 65_536
DRIP_S: Final = 0.25
"""Between two bytes of a slow client; a service that waits for silence alone never hangs up."""
ANSWER_S: Final = 10.0
READERS: Final = 10
"""Of the crowd, one in so many streams without reading: it costs the service as much as a busy client does,
until the buffers between the two are full."""


def _aborts(name: str, stage: Stage) -> Row:
    """Hang up in the middle of a request, and after a whole one without waiting for the answer."""
    whole = 0
    with stage.load() as load:

        def abort() -> None:
            nonlocal whole
            for number in range(stage.pace.crowd):
                batch = load.ledger.batch(3)
                request = _head(stage, "/label", json.dumps(batch).encode())
                at = len(request) if number % 2 else len(request) - 40
                whole += number % 2
                with _connected(stage) as sock:
                    sock.sendall(request[:at])
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
                load.ledger.settle(batch, {})

        load.during(abort)
    return stage.row(name, load, hung_up=stage.pace.crowd, after_a_whole_request=whole)


@dataclass
class Crowd:
    """Clients that stay connected and do one thing again and again, each until it is hung up on.

    Attributes:
        act: one thing; raises `OSError` or returns bytes of an answer when the service has had enough.
        answers: statuses that came, how often.
        gone_s: when each was hung up on, in seconds from the start.
    """

    act: Callable[[socket.socket], bytes]
    sockets: list[socket.socket]
    answers: Counter[str] = field(default_factory=Counter)
    gone_s: list[float] = field(default_factory=list)

    def hold(self, seconds: float) -> None:
        """Let them go on for so long, or until none is left."""
        start = time.monotonic()
        left = list(self.sockets)
        while left and time.monotonic() < start + seconds:
            for sock in list(left):
                try:
                    answer = self.act(sock)
                except BlockingIOError:
                    continue
                except OSError:
                    answer = b""
                else:
                    if not answer:
                        continue
                if status := _status(answer):
                    self.answers[status] += 1
                self.gone_s.append(time.monotonic() - start)
                left.remove(sock)
            time.sleep(DRIP_S)

    def notes(self) -> dict[str, Any]:
        found: dict[str, Any] = {"clients": len(self.sockets), "hung_up_on": len(self.gone_s)}
        if self.gone_s:
            found["after_s"] = round(sorted(self.gone_s)[len(self.gone_s) // 2], 1)
        return found | ({"told": dict(self.answers)} if self.answers else {})


def _crowded(
    opening: Callable[[Stage], bytes], act: Callable[[socket.socket], bytes], *, one_in: int = 1
) -> Scenario:
    """A crowd that begins a request and never comes to its end."""

    def play(name: str, stage: Stage) -> Row:
        before = rss_mib(stage.program.pid) or 0.0
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(_connected(stage)) for _ in range(stage.pace.crowd // one_in)]
            crowd = Crowd(act, sockets)
            with stage.load() as load:

                def misbehave() -> None:
                    for sock in sockets:
                        with contextlib.suppress(OSError):  # it may be refused from the start
                            sock.sendall(opening(stage))
                        sock.setblocking(False)
                    crowd.hold(stage.pace.hold_s)

                load.during(misbehave, stack.close)
        grown = (rss_mib(stage.program.pid) or 0.0) - before
        return stage.row(name, load, grown_mib=round(grown, 1), **crowd.notes())

    return play


def _drip(piece: bytes) -> Callable[[socket.socket], bytes]:
    def act(sock: socket.socket) -> bytes:
        with contextlib.suppress(BlockingIOError):
            if answer := sock.recv(65_536):
                return answer
            raise ConnectionError
        sock.sendall(piece)
        return b""

    return act


def _pour(sock: socket.socket) -> bytes:
    """Write some lines of a stream; read nothing of what comes back."""
    sock.send(_LINES)
    return b""


def _lines() -> bytes:
    """Events with the longest ids that may be, because the answers repeat them."""
    event = {name: name.ljust(256, "x") for name in ("event_id", "user_id", "video_id")}
    rest = {"timestamp_ms": START_MS, "watch_time_s": 1.0, "duration_s": 2.0}
    return (json.dumps(event | rest).encode() + b"\n") * 100


_LINES: Final = _lines()


def _too_big(*, chunked: bool) -> Scenario:
    """Bodies of ten megabytes, one after the other."""

    def play(name: str, stage: Stage) -> Row:
        told: Counter[str] = Counter()
        took: list[float] = []
        before = rss_mib(stage.program.pid) or 0.0
        with stage.load() as load:

            def send() -> None:
                for _ in range(stage.pace.times):
                    started = time.monotonic()
                    told[_status(_sent_big(stage, chunked=chunked)) or "broken"] += 1
                    took.append(time.monotonic() - started)

            load.during(send)
        grown = (rss_mib(stage.program.pid) or 0.0) - before
        return stage.row(name, load, told=dict(told), answered_ms=spread(took), grown_mib=round(grown, 1))

    return play


def _sent_big(stage: Stage, *, chunked: bool) -> bytes:
    """Send, until there is an answer. Whoever has written into a closed connection may never read it."""
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % BIG
    frame = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    with _connected(stage) as sock:
        sock.sendall(_head(stage, "/label", length=length))
        sock.settimeout(0.001)
        for _ in range(BIG // len(PIECE)):
            with contextlib.suppress(TimeoutError):
                return sock.recv(65_536)
            sock.settimeout(ANSWER_S)
            try:
                sock.sendall(frame)
            except OSError:
                break
            sock.settimeout(0.001)
        sock.settimeout(ANSWER_S)
        try:
            return sock.recv(65_536)
        except OSError:
            return b""


@contextlib.contextmanager
def _connected(stage: Stage) -> Iterator[socket.socket]:
    where = urlsplit(stage.program.url)
    with socket.create_connection((where.hostname, where.port or 80), timeout=ANSWER_S) as sock:
        yield sock


def _head(
    stage: Stage, path: str, body: bytes | None = None, *, length: bytes = b"", kind: str = "application/json"
) -> bytes:
    """A request up to and with the body that is there."""
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"]
    head += [f"{name}: {value}" for name, value in stage.headers.items()]
    if body is not None:
        length = b"Content-Length: %d" % len(body)
    return "\r\n".join(head).encode() + b"\r\n" + length + b"\r\n\r\n" + (body or b"")


def _status(answer: bytes) -> str | None:
    found = answer.split(b" ", 2)
    return found[1].decode() if len(found) > 2 and answer.startswith(b"HTTP/") else None


def _unfinished_body(stage: Stage) -> bytes:
    return _head(stage, "/label", length=b"Content-Length: 100000") + b'{"events": ['


def _stream(stage: Stage) -> bytes:
    kind = "application/x-ndjson"
    head = _head(stage, "/label?store=false", length=b"Transfer-Encoding: chunked", kind=kind)
    return head + b"7fffffff\r\n"  # one chunk that is as good as endless


SCENARIOS: Final[dict[str, Scenario]] = {
    "clients hang up": _aborts,
    "clients with slow headers": _crowded(
        lambda stage: b"GET /health/live HTTP/1.1\r\nX-Slow: ", _drip(b"a")
    ),
    "clients with slow bodies": _crowded(_unfinished_body, _drip(b" ")),
    "clients that do not read": _crowded(_stream, _pour, one_in=READERS),
    "bodies of 10 MB": _too_big(chunked=False),
    "bodies of 10 MB in chunks": _too_big(chunked=True),
}
