"""POST /label as NDJSON for a long time: what the worker holds does not grow with what has passed through."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from loadtests.host import rss_mib
from service.client import Client
from service.wire import Label, StreamSummary
from tests.service.running import Service, event

pytestmark = pytest.mark.slow

LINES = 100_000
"""Some 17 MB of lines, and as much of answers."""

GROWTH_MIB = 8.0
"""A quarter of that, were it held; one batch and the buffers of the connection are allowed."""


def lines(user: str, count: int) -> Iterator[bytes]:
    before, after = json.dumps(event("#", user)).encode().split(b"#")
    return (before + b"%d" % i + after for i in range(count))


def rss(service: Service) -> float:
    held = rss_mib(service.process.pid)
    assert held is not None
    return held


def test_a_hundred_thousand_lines_leave_nothing_behind(service: Service, user: str) -> None:
    with Client(service.url, timeout_s=60.0) as api:
        list(api.label_stream(lines(user, 2_000), store=False))  # what grows once
        before, most, labels = rss(service), 0.0, 0
        for answer in api.label_stream(lines(user, LINES), store=False):
            if isinstance(answer, Label):
                labels += 1
                if labels % 10_000 == 0:
                    most = max(most, rss(service))
            else:
                assert isinstance(answer, StreamSummary)
                assert (answer.accepted, answer.rejected) == (LINES, 0)
    assert labels == LINES
    assert most - before < GROWTH_MIB


def test_a_client_that_does_not_read_is_not_read_from(service: Service, user: str) -> None:
    """It can send what the two kernels and one batch take, then it has to wait; the worker stays as it is."""
    where = urlsplit(service.url)
    assert where.hostname is not None
    chunk = b"".join(line + b"\n" for line in lines(user, 500))
    before, sent = rss(service), 0
    with socket.create_connection((where.hostname, where.port or 80), timeout=3.0) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.sendall(
            b"POST /label?store=false HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        stuck = False
        while not stuck and sent < 64 * 2**20:
            try:
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                sent += len(chunk)
            except TimeoutError:
                stuck = True
        assert stuck, f"it took {sent} bytes from a client that reads nothing"
        assert rss(service) - before < GROWTH_MIB
    with Client(service.url) as api:
        assert api.health().status == "live"
