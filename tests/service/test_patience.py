"""Clients that dawdle: how long they are waited for, and that they hold nothing for ever."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.endpoints import label_stream
from service.server import sockets
from tests.service.exchanges import Dialogue, head, line, metric
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, served

pytestmark = pytest.mark.slow

PATIENCE_S = 0.6


@pytest.fixture
def client(bundles: Path, tmp_path: Path) -> Iterator[httpx2.Client]:
    with served(
        bundles, MemoryStore(), tmp_path, body_timeout_s=PATIENCE_S, max_inflight_body_bytes=300_000
    ) as running:
        yield running


def connect(client: httpx2.Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=5)


def until_closed(sock: socket.socket) -> bytes:
    """What is still received; fails with a time-out when the connection stays."""
    received = b""
    while part := sock.recv(65536):
        received += part
    return received


@pytest.mark.parametrize("sent", [b"", b"POST /label HTTP/1.1\r\n", b"POST /label HTTP/1.1\r\nx: "])
def test_a_connection_without_a_whole_request_is_closed(client: httpx2.Client, sent: bytes) -> None:
    with connect(client) as sock:
        sock.sendall(sent)
        assert until_closed(sock) == b""


def test_a_head_that_trickles_on_a_used_connection_is_closed_too(client: httpx2.Client) -> None:
    with connect(client) as sock:
        sock.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b'"live"' in sock.recv(65536)
        began = time.monotonic()
        with pytest.raises(OSError, match=r"(reset|[Bb]roken)"):  # noqa: PT012  # each byte may be the last
            while time.monotonic() - began < 5:
                sock.sendall(b"G" if time.monotonic() == began else b"E")
                time.sleep(0.05)


def test_a_body_that_does_not_come_is_408(client: httpx2.Client) -> None:
    with connect(client) as sock:
        sock.sendall(head(100) + b"[")
        received = until_closed(sock)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in received
    assert b"REELRANK_BODY_TIMEOUT_S" in received
    assert metric(client, 'reelrank_refusals_total{reason="body_too_slow",route="/label"}') == 1


def test_a_slow_body_that_ends_in_time_is_read(client: httpx2.Client) -> None:
    body = json.dumps([event()]).encode()
    with connect(client) as sock:
        sock.sendall(head(len(body)))
        for at in range(0, len(body), 40):
            sock.sendall(body[at : at + 40])
            time.sleep(0.01)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_unfinished_bodies_have_a_budget_and_whole_ones_pass(client: httpx2.Client) -> None:
    halves = [connect(client) for _ in range(6)]
    try:
        for sock in halves:
            sock.sendall(head(200_000) + b" " * 150_000)
        refusals = 'reelrank_refusals_total{reason="body_bytes",route="/label"}'
        assert eventually(lambda: metric(client, refusals) > 0)
        answers = []
        for sock in halves:
            sock.settimeout(0.2)
            try:
                answers.append(sock.recv(12))
            except TimeoutError:
                answers.append(b"")  # still waited for
        assert b"HTTP/1.1 429" in answers
        assert set(answers) != {b"HTTP/1.1 429"}
        assert client.post("/label", json=event()).status_code == 200
    finally:
        for sock in halves:
            sock.close()
    assert eventually(lambda: metric(client, 'reelrank_in_flight{what="body_bytes"}') == 0)


def test_a_silent_stream_ends_with_a_reason_and_an_empty_line_keeps_it(client: httpx2.Client) -> None:
    dialogue = Dialogue(str(client.base_url))
    dialogue.say(line("e1", "u") + b"\n")
    dialogue.headers()
    assert dialogue.hear()[0]["event_id"] == "e1"
    for _ in range(6):  # twice as long as it is waited for
        time.sleep(PATIENCE_S / 3)
        dialogue.say(b"\n")
    dialogue.say(line("e2", "u") + b"\n")
    assert dialogue.hear()[0]["event_id"] == "e2"
    (problem,) = dialogue.hear()
    assert problem["status"] == 408
    assert "empty line" in problem["detail"]
    dialogue.close()


@pytest.mark.parametrize("filler", [b"\n", b"x"], ids=["blank lines", "a line without end"])
def test_a_stream_without_events_ends_whatever_keeps_coming(
    client: httpx2.Client, filler: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_stream, "BLANK_TIMEOUTS", 2)
    dialogue = Dialogue(str(client.base_url))
    for _ in range(100):
        dialogue.say(filler)
        if select.select([dialogue._socket], [], [], PATIENCE_S / 6)[0]:
            break
    assert dialogue.headers().startswith(b"HTTP/1.1 408 ")
    dialogue.close()
    assert eventually(lambda: metric(client, 'reelrank_in_flight{what="streams"}') == 0)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux breaks such connections itself")
def test_a_client_that_does_not_take_its_answer_is_dropped(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "UNREAD_MS", 500)
    with served(bundles, MemoryStore(), tmp_path) as client:
        body = json.dumps([event(f"e{i}", video_id="v" * 200) for i in range(4000)]).encode()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(60)
            sock.connect(("127.0.0.1", client.base_url.port or 0))
            sock.sendall(head(len(body)) + body)
            assert eventually(
                lambda: (
                    metric(client, 'reelrank_requests_total{method="POST",route="/label",status="200"}') == 1
                )
            )

            def dropped() -> bool:
                try:
                    sock.sendall(b"x")
                except OSError:
                    return True
                time.sleep(0.1)
                return False

            assert eventually(dropped)
