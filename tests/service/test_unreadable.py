"""Heads of requests that another server might read differently, or that have no end."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from service.server.http_protocol import MAX_HEAD_BYTES
from tests.service.exchanges import head
from tests.service.memory_store import MemoryStore
from tests.service.running import Service, event, eventually, served

LABEL = b"POST /label HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def connect(url: str) -> socket.socket:
    where = urlsplit(url)
    assert where.hostname is not None
    return socket.create_connection((where.hostname, where.port or 80), timeout=60)


def exchange(service: Service, *parts: bytes) -> list[bytes]:
    """Send, and read until the service hangs up."""
    answer = b""
    with connect(service.url) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(65536):
                answer += data
        except (ConnectionResetError, BrokenPipeError):
            pass  # it does not read the rest
    return re.split(rb"(?=HTTP/1\.1 \d)", answer)[1:]


def is_refusal(answers: list[bytes], status: int) -> bool:
    """One problem document, and the end of the connection."""
    (answer,) = answers
    head, _, body = answer.partition(b"\r\n\r\n")
    document = json.loads(body)
    return (
        head.startswith(b"HTTP/1.1 %d " % status)
        and b"content-type: application/problem+json" in head
        and b"x-request-id: " in head
        and b"x-content-type-options: nosniff" in head
        and document["status"] == status
    )


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
        b"Content-Length: 2\r\nContent-Length: 30\r\n\r\n{}",
        b"Content-Length: 2, 2\r\n\r\n{}",
        b"Content-Length: -2\r\n\r\n{}",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: 0x2\r\n\r\n{}",
        b"Content-Length : 2\r\n\r\n{}",
        b"Transfer-Encoding: identity\r\n\r\n{}",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
        b"X-A: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        b"X-A: a\rb\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_a_body_whose_end_is_unclear_is_not_read(service: Service, framing: bytes) -> None:
    assert is_refusal(exchange(service, LABEL + framing), 400)


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n{}\r\n", b"2\n{}\n0\n\n"]
)
def test_chunks_that_are_none_end_the_connection(service: Service, chunks: bytes) -> None:
    assert is_refusal(exchange(service, LABEL + b"Transfer-Encoding: chunked\r\n\r\n" + chunks), 400)


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n"])
def test_a_request_has_one_host(service: Service, hosts: bytes) -> None:
    assert is_refusal(exchange(service, LIVE + hosts + b"\r\n"), 400)


def test_what_the_caller_calls_our_host_is_never_repeated(client: httpx2.Client) -> None:
    for path in ("/health/live/", "/label/", "/docs", "/openapi.json", "/nope"):
        reply = client.get(path, headers={"host": "evil.example"})
        assert "location" not in reply.headers
        assert "evil" not in reply.text


@pytest.mark.parametrize(
    "parts",
    [
        [LIVE + b"Host: x\r\nX-A: ", *[b"a" * 65536] * 40],
        [b"GET /", *[b"a" * 65536] * 40],
        [b"GET /health/live?", *[b"a" * 65536] * 40],
        [LIVE, *[b"a: b\r\n" * 10_000] * 40],
        [LABEL + CHUNKED + b"1;", *[b"a" * 65536] * 40],
        [LABEL + CHUNKED + b"0\r\nX-A: ", *[b"a" * 65536] * 40],
    ],
    ids=["value", "path", "query", "many", "chunk", "trailer"],
)
def test_a_head_or_a_trailer_without_end_is_cut_off(service: Service, parts: list[bytes]) -> None:
    assert is_refusal(exchange(service, *parts), 431)


def test_a_large_body_and_many_requests_on_a_connection_are_no_long_head(
    client: httpx2.Client, user: str
) -> None:
    body = [event(f"{user}-{i}", user) for i in range(2000)]
    for _ in range(3):
        assert len(json.dumps(body)) > 3 * MAX_HEAD_BYTES
        assert client.post("/label", json=body).status_code == 200


def test_pipelined_requests_are_all_answered(service: Service) -> None:
    ask = LIVE + b"Host: x\r\n"
    answers = exchange(service, (ask + b"\r\n") * 5000 + ask + b"Connection: close\r\n\r\n")
    assert len(answers) == 5001
    assert {answer[:15] for answer in answers} == {b"HTTP/1.1 200 OK"}


@pytest.mark.parametrize("framing", [b"Content-Length: 2\r\n\r\n[]", CHUNKED + b"2\r\n[]\r\n0\r\n\r\n"])
def test_requests_that_offer_another_protocol_are_answered_in_this_one(
    service: Service, framing: bytes
) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    last = LABEL + b"Connection: close\r\n" + offer + framing
    answers = exchange(service, (LABEL + offer + framing) * 1000 + last)
    assert len(answers) == 1001
    assert all(b'"status":"ok"' in answer for answer in answers)


def test_a_client_that_hangs_up_in_its_body_leaves_no_trace_but_a_count(service: Service) -> None:
    want = 'reelrank_requests_total{method="POST",route="/label",status="400"}'
    with service.client() as client:

        def count() -> float:
            lines = client.get("/metrics").text.splitlines()
            return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(want))

        before = count()
        with connect(service.url) as connection:
            connection.sendall(LABEL + b"Content-Length: 100\r\n\r\n{")
        assert eventually(lambda: count() > before)
        assert count() == before + 1
        assert 'status="500"' not in client.get("/metrics").text


POST = head(len(BODY := json.dumps(event("behind", "behind")).encode())) + BODY


@pytest.mark.parametrize(
    ("before", "count"), [((LIVE + b"Host: x\r\n\r\n") * 2, 2), (POST, 1), (POST + POST, 2)]
)
@pytest.mark.parametrize("garbage", [b"BAD\r\n\r\n", LABEL + CHUNKED + b"zz\r\n", LABEL + b"\x00: \r\n\r\n"])
def test_requests_before_garbage_are_answered_and_then_it_is_refused(
    service: Service, before: bytes, count: int, garbage: bytes
) -> None:
    *answers, last = exchange(service, before + garbage)
    assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * count
    assert is_refusal([last], 400)


def test_a_trailer_is_no_header(bundles: Path, tmp_path: Path) -> None:
    trailer = b"Authorization: Bearer sesame\r\nX-Request-Id: trailer\r\n\r\n"
    with (
        served(bundles, MemoryStore(), tmp_path, api_keys="sesame:label") as client,
        connect(str(client.base_url)) as connection,
    ):
        connection.sendall(LABEL + CHUNKED + b"2\r\n[]\r\n0\r\n" + trailer)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"trailer" not in answer


@pytest.mark.parametrize("framing", [b"Content-Length: 9000000\r\n\r\n", CHUNKED])
def test_a_client_that_goes_on_sending_learns_that_its_body_is_too_large(
    service: Service, framing: bytes
) -> None:
    chunk = b"%x\r\n%s\r\n" % (100_000, b" " * 100_000)
    assert exchange(service, LABEL + framing, *[chunk] * 80)[0].startswith(b"HTTP/1.1 413 ")


class Waiting(MemoryStore):
    """Answers nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = threading.Event(), threading.Event()

    async def ping(self) -> None:
        self.asked.set()
        while not self.may.is_set():
            await asyncio.sleep(0.01)


READY = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_client_that_only_stops_sending_gets_its_answers(bundles: Path, tmp_path: Path) -> None:
    store = Waiting()
    with served(bundles, store, tmp_path) as client, connect(str(client.base_url)) as connection:
        connection.sendall(READY * 2)
        connection.shutdown(socket.SHUT_WR)
        assert store.asked.wait(60)
        store.may.set()
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_a_client_that_hangs_up_before_its_answers_makes_no_fault(
    bundles: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Waiting()
    with served(bundles, store, tmp_path) as client:
        with connect(str(client.base_url)) as connection:
            connection.sendall(READY * 3 + b"BAD\r\n\r\n")
            assert store.asked.wait(60)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        client.get("/health/live").raise_for_status()
        store.may.set()
        client.get("/health/ready").raise_for_status()
    assert [record.message for record in caplog.records if record.exc_info] == []
