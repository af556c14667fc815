"""Drills of clients that hang up, dawdle, do not read, or send too much or garbage, beside the usual load."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from loadtests.client import Address, post
from loadtests.driver import SPREAD, percentiles_ms
from loadtests.faults.drills import Drill, DrillContext, DrillResult
from loadtests.faults.ledger import START_MS, Ledger
from loadtests.host import rss_mib
from service.settings import Settings

BIG: Final = 10 * 2**20
"""Bytes of a body five times the default limit."""
PIECE: Final = b" " * 65_536
DRIP_S: Final = 0.25
"""Between two bytes of a slow client: a server that only waits for silence would never hang up."""
REPLY_S: Final = 10.0
HOT_BATCH: Final = 500
MAX_EVENTS: Final[int] = Settings.model_fields["max_events"].default
READERS: Final = 10
"""One in so many of the clients streams without reading: it costs the service as much as a busy client."""

Act = Callable[[socket.socket], bytes]
"""One thing that a client does; returns bytes of a reply, raises `OSError` when it was hung up on."""


def _head(path: str, *headers: str, kind: str = "application/json") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


@contextlib.contextmanager
def _connection(address: Address) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=REPLY_S) as sock:
        yield sock


def _status(reply: bytes) -> str | None:
    words = reply.split(b" ", 2)
    return words[1].decode() if len(words) > 2 and reply.startswith(b"HTTP/") else None


def _hang_up(name: str, context: DrillContext) -> DrillResult:
    """Reset the connection within a request, and after a whole one without waiting for the reply."""
    clients = context.profile.bad_clients
    with context.load() as load:

        def hang_up() -> None:
            for number in range(clients):
                batch = load.ledger.batch(3)
                request = post("/label", json.dumps(batch).encode())
                with _connection(context.env.service.address) as sock:
                    sock.sendall(request if number % 2 else request[:-40])
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
                load.ledger.settle(batch, {})

        load.during(hang_up)
    return context.result(name, load, hung_up=clients, after_a_whole_request=clients // 2)


def _slow_clients(opening: bytes, act: Act, *, one_in: int = 1) -> Drill:
    """Clients that begin a request and never end it, each until it is hung up on."""

    def drill(name: str, context: DrillContext) -> DrillResult:
        service, clients = context.env.service, context.profile.bad_clients // one_in
        rss_before = rss_mib(service.pid) or 0.0
        statuses: Counter[str] = Counter()
        hung_up_s: list[float] = []
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(_connection(service.address)) for _ in range(clients)]

            def misbehave() -> None:
                for sock in sockets:
                    with contextlib.suppress(OSError):  # it may be refused from the start
                        sock.sendall(opening)
                    sock.setblocking(False)
                start_s, remaining = time.monotonic(), list(sockets)
                while remaining and time.monotonic() < start_s + context.profile.bad_clients_s:
                    for sock in list(remaining):
                        reply = _reply_or_end(act, sock)
                        if reply is not None:
                            statuses.update(filter(None, [_status(reply)]))
                            hung_up_s.append(time.monotonic() - start_s)
                            remaining.remove(sock)
                    time.sleep(DRIP_S)

            with context.load() as load:
                load.during(misbehave, stack.close)
        notes: dict[str, Any] = {"clients": clients, "hung_up_on": len(hung_up_s)}
        if hung_up_s:
            notes["after_s"] = round(sorted(hung_up_s)[len(hung_up_s) // 2], 1)
        if statuses:
            notes["statuses"] = dict(statuses)
        grown_mib = round((rss_mib(service.pid) or 0.0) - rss_before, 1)
        return context.result(name, load, grown_mib=grown_mib, **notes)

    return drill


def _reply_or_end(act: Act, sock: socket.socket) -> bytes | None:
    """Return the reply, empty if the connection ended, or `None` if the client can go on."""
    try:
        return act(sock) or None
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _drip(piece: bytes) -> Act:
    def act(sock: socket.socket) -> bytes:
        with contextlib.suppress(BlockingIOError):
            if reply := sock.recv(65_536):
                return reply
            raise ConnectionError
        sock.sendall(piece)
        return b""

    return act


def _pour(sock: socket.socket) -> bytes:
    """Write lines of a stream with the longest ids allowed, which the replies repeat; read nothing."""
    event = {name: name.ljust(256, "x") for name in ("event_id", "user_id", "video_id")}
    rest = {"timestamp_ms": START_MS, "watch_time_s": 1.0, "duration_s": 2.0}
    sock.send((json.dumps(event | rest).encode() + b"\n") * 100)
    return b""


def _too_big(*, chunked: bool) -> Drill:
    """Bodies of ten megabytes, one after the other."""

    def drill(name: str, context: DrillContext) -> DrillResult:
        statuses: Counter[str] = Counter()
        took_s: list[float] = []
        service = context.env.service
        rss_before = rss_mib(service.pid) or 0.0
        with context.load() as load:

            def send() -> None:
                for _ in range(context.profile.repetitions):
                    start_s = time.monotonic()
                    statuses[_status(_send_big(service.address, chunked=chunked)) or "broken"] += 1
                    took_s.append(time.monotonic() - start_s)

            load.during(send)
        grown_mib = round((rss_mib(service.pid) or 0.0) - rss_before, 1)
        took_ms = percentiles_ms(took_s, SPREAD)
        return context.result(name, load, statuses=dict(statuses), answered_ms=took_ms, grown_mib=grown_mib)

    return drill


def _send_big(address: Address, *, chunked: bool) -> bytes:
    """Send until there is a reply: after a write to a closed connection it might never be read."""
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {BIG}"
    frame = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    with _connection(address) as sock:
        sock.sendall(_head("/label", length))
        try:
            for _ in range(BIG // len(PIECE)):
                sock.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    return sock.recv(65_536)
                sock.settimeout(REPLY_S)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sock.sendall(frame)
            return sock.recv(65_536)
        except OSError:
            return b""


def _whole_requests(wanted: str, behind: bytes = b"", *, half_close: bool = False) -> Drill:
    """Clients that send a whole request and something behind it, or nothing more at all.

    Args:
        wanted: statuses that each of them shall get.
        behind: bytes in the same segment.
        half_close: end the sending side, and read on.
    """

    def drill(name: str, context: DrillContext) -> DrillResult:
        statuses: Counter[str] = Counter()
        clients = context.profile.bad_clients
        with context.load() as load:

            def exchange() -> None:
                for _ in range(clients):
                    batch = load.ledger.batch(3)
                    with _connection(context.env.service.address) as sock:
                        sock.sendall(post("/label", json.dumps(batch).encode()) + behind)
                        if half_close:
                            sock.shutdown(socket.SHUT_WR)
                        statuses[" ".join(re.findall(r"HTTP/1.1 (\d+) ", _until_closed(sock)))] += 1
                    load.ledger.settle(batch, {})

            load.during(exchange)
        right = statuses == {wanted: clients}
        return context.result(name, load, statuses=dict(statuses), all_answered=right)

    return drill


def _until_closed(sock: socket.socket) -> str:
    received = b""
    with contextlib.suppress(OSError):
        while part := sock.recv(65_536):
            received += part
    return received.decode(errors="replace")


def _heavy_bodies(size: int, *, one_user: bool = False) -> Drill:
    """Bodies of many events, one after the other, beside the usual load: which is all admitted.

    Args:
        size: events of a body.
        one_user: all are of one user, as of a shared id; a body must not cost more as they grow in number.
    """

    def drill(name: str, context: DrillContext) -> DrillResult:
        statuses: Counter[str] = Counter()
        took_s: list[float] = []
        bodies = context.profile.hot_events // HOT_BATCH if one_user else context.profile.repetitions
        with context.load() as load, context.env.service.http(REPLY_S) as http:
            heavy = Ledger(f"{load.ledger.name}-heavy")

            def send() -> None:
                for _ in range(bodies):
                    batch = [e | {"user_id": "hot"} if one_user else e for e in heavy.batch(size)]
                    start_s = time.monotonic()
                    statuses[str(http.post("/label", json=batch).status_code)] += 1
                    took_s.append(time.monotonic() - start_s)

            load.during(send)
        tenth = max(1, bodies // 10)
        notes: dict[str, Any] = {
            f"{part}_ms": percentiles_ms(took, SPREAD)
            for part, took in (("first", took_s[:tenth]), ("last", took_s[-tenth:]))
        }
        admitted = not load.outcomes()["429"]
        return context.result(name, load, statuses=dict(statuses), others_admitted=admitted, **notes)

    return drill


CLIENT_DRILLS: Final[dict[str, Drill]] = {
    "clients hang up": _hang_up,
    "clients with slow headers": _slow_clients(b"GET /health/live HTTP/1.1\r\nX-Slow: ", _drip(b"a")),
    "clients with slow bodies": _slow_clients(
        _head("/label", "Content-Length: 100000") + b'{"events": [', _drip(b" ")
    ),
    "clients that do not read": _slow_clients(
        _head("/label?store=false", "Transfer-Encoding: chunked", kind="application/x-ndjson")
        + b"7fffffff\r\n",  # one chunk that is as good as endless
        _pour,
        one_in=READERS,
    ),
    "bodies of 10 MB": _too_big(chunked=False),
    "bodies of 10 MB in chunks": _too_big(chunked=True),
    "half-closed clients": _whole_requests("200", half_close=True),
    "garbage behind a request": _whole_requests("200 400", b"garbage\r\n\r\n"),
    "hot user": _heavy_bodies(HOT_BATCH, one_user=True),
    "largest bodies": _heavy_bodies(MAX_EVENTS),
}
