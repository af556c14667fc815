"""The open-loop driver, against a small server that does what a test wants."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from loadtests.load.connections import GONE, post
from loadtests.load.figures import figures, within
from loadtests.load.open_loop import Run, drive, due_times

REQUEST = post("/", b"{}")


@contextmanager
def answering(step: Callable[[int], int]) -> Iterator[tuple[str, int]]:
    """A server that answers request number i with status `step(i)`, or hangs up if that is `GONE`."""
    numbers = iter(range(10**9))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = step(next(numbers))
            if status == GONE:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

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


def test_every_request_is_sent_and_answered_once() -> None:
    bodies: list[bytes] = []
    with answering(lambda i: 200) as address:
        run = drive(
            address, [REQUEST], np.linspace(0.0, 0.2, 50), check=lambda i, status, body: bodies.append(body)
        )
    assert run.status.tolist() == [200] * 50
    assert bodies == [b"ok"] * 50
    assert (run.latency_s > 0).all()


def test_a_stall_is_counted_for_every_request_that_was_due_in_it() -> None:
    """With one connection and one pause, each request behind it waits; none is spared by not being sent."""

    def stall(i: int) -> int:
        if i == 0:
            time.sleep(0.5)
        return 200

    with answering(stall) as address:
        run = drive(address, [REQUEST], np.linspace(0.0, 0.25, 26), connections=1)
    assert (run.latency_s >= 0.24).all()
    assert (run.late_s[1:] > 0.2).all()
    assert run.status.tolist() == [200] * 26


def test_a_broken_connection_is_an_error_and_replaced() -> None:
    with answering(lambda i: GONE if i == 3 else 200) as address:
        run = drive(address, [REQUEST], np.linspace(0.0, 0.2, 20), connections=2)
    assert sorted(run.status.tolist()) == [GONE] + [200] * 19
    assert figures(run)["errors"] == pytest.approx(1 / 20)


def test_what_is_never_answered_ends_with_the_time_out() -> None:
    release = threading.Event()

    def never(i: int) -> int:
        release.wait(10)
        return 200

    with answering(never) as address:
        run = drive(address, [REQUEST], np.array([0.0, 0.01]), connections=1, timeout_s=0.2)
        release.set()
    assert run.status.tolist() == [GONE, GONE]
    assert (run.latency_s >= 0.2).all()


def test_arrivals_have_the_rate_and_come_at_random() -> None:
    due = due_times(200.0, 50.0, np.random.default_rng(0))
    gaps = np.diff(due)
    assert 1 / gaps.mean() == pytest.approx(200, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as of an exponential distribution


def made(statuses: list[int], latency_s: list[float]) -> Run:
    n = len(statuses)
    return Run(np.linspace(0, 1, n), np.array(latency_s), np.zeros(n), np.zeros(n), np.array(statuses))


def test_refusals_are_no_errors_but_break_the_objective() -> None:
    run = made([200] * 9 + [429], [0.001] * 10)
    found = figures(run)
    assert found["errors"] == 0
    assert found["statuses"] == {"200": 9, "429": 1}
    assert not within(found, p99_ms=10, errors=0.001)


def test_the_objective_is_of_the_slowest_hundredth() -> None:
    latency = [0.001] * 98 + [0.02] * 2
    assert not within(figures(made([200] * 100, latency)), p99_ms=10, errors=0)
    assert within(figures(made([200] * 100, latency)), p99_ms=20.1, errors=0)
