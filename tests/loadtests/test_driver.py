"""The driver against a small server, and the figures of its runs."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.client import NO_REPLY, BlockingConnection, post
from loadtests.command import LoadtestError
from loadtests.driver import (
    PERCENTILES,
    Run,
    by_second,
    drive,
    latency_curve,
    meets_objective,
    percentiles_ms,
    poisson_times,
    saturate,
    summarize,
)
from loadtests.host import OtherLoad, measure_jitter, watch_clock
from tests.loadtests.stub_server import serve_replies

REQUEST = post("/", b"{}")


def make_run(statuses: list[int], latency_s: list[float], due_s: list[float] | None = None) -> Run:
    zeros = np.zeros(len(statuses))
    due = np.linspace(0, 1, len(statuses)) if due_s is None else np.array(due_s)
    return Run(due, np.array(latency_s), zeros, zeros, np.array(latency_s) / 2, np.array(statuses))


def test_every_request_is_sent_and_answered_once() -> None:
    replies: list[tuple[int, bytes]] = []
    with serve_replies() as address:
        run = drive(address, [REQUEST], np.linspace(0.0, 0.2, 50), check=lambda *reply: replies.append(reply))
    assert run.status.tolist() == [200] * 50
    assert replies == [(200, b"ok")] * 50
    assert (run.latency_s > 0).all()


def test_a_stall_counts_for_every_request_that_was_due_in_it() -> None:
    """With one connection and one pause, each request behind it waits; none is spared by not being sent."""

    def stall(number: int) -> int:
        if number == 0:
            time.sleep(0.5)
        return 200

    with serve_replies(stall) as address:
        run = drive(address, [REQUEST], np.linspace(0.0, 0.25, 26), connections=1)
    assert (run.latency_s >= 0.24).all()
    assert (run.wait_s[1:] > 0.2).all()
    assert run.status.tolist() == [200] * 26


def test_a_broken_connection_is_an_error_and_replaced() -> None:
    with serve_replies(lambda number: NO_REPLY if number == 3 else 200) as address:
        run = drive(address, [REQUEST], np.linspace(0.0, 0.2, 20), connections=2)
    assert sorted(run.status.tolist()) == [NO_REPLY] + [200] * 19
    assert summarize(run)["errors"] == pytest.approx(1 / 20)


def test_a_request_without_reply_ends_with_the_time_out() -> None:
    release = threading.Event()

    def never(number: int) -> int:
        release.wait(10)
        return 200

    with serve_replies(never) as address:
        run = drive(address, [REQUEST], np.array([0.0, 0.01]), connections=1, timeout_s=0.2)
        release.set()
    assert run.status.tolist() == [NO_REPLY, NO_REPLY]
    assert (run.latency_s >= 0.2).all()


def test_a_closed_loop_sends_as_many_as_it_may_and_needs_a_good_reply() -> None:
    sent: list[int] = []

    def request(number: int) -> bytes:
        sent.append(number)
        return REQUEST

    with serve_replies(lambda number: 429 if number < 3 else 200) as address:
        rate, statuses = saturate(address, request, seconds=30, senders=3, limit=10)
    assert sorted(sent) == list(range(10))
    assert statuses == {200: 7, 429: 3}
    assert rate > 0
    with serve_replies(lambda number: 503) as address, pytest.raises(LoadtestError, match="no reply was 200"):
        saturate(address, [REQUEST], seconds=30, limit=2)


def test_a_single_connection_returns_headers_and_refuses_other_statuses() -> None:
    with serve_replies(lambda number: 500 if number else 200) as address, BlockingConnection(address) as one:
        reply = one.send(REQUEST)
        assert (reply.status, reply.body, reply.headers[b"content-length"]) == (200, b"ok", b"2")
        assert reply.received_s > reply.sent_s
        with pytest.raises(LoadtestError, match="replied 500"):
            one.send(REQUEST)


def test_arrivals_have_the_rate_and_exponential_gaps() -> None:
    gaps = np.diff(poisson_times(200.0, 50.0, np.random.default_rng(0)))
    assert 1 / gaps.mean() == pytest.approx(200, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


# --- figures


def test_refusals_are_no_errors_but_break_the_objective() -> None:
    figures = summarize(make_run([200] * 9 + [429], [0.001] * 10))
    assert figures["errors"] == 0
    assert figures["statuses"] == {"200": 9, "429": 1}
    assert not meets_objective(figures, p99_ms=10, errors=0.001)


def test_the_services_own_latencies_stand_beside_the_drivers() -> None:
    timing = {"server-timing": "wait;dur=0.5, rest;dur=1.5, total;dur=2.000"}
    with serve_replies(lambda number: 429 if number == 0 else 200, headers=timing) as address:
        figures = summarize(drive(address, [REQUEST], np.linspace(0.0, 0.1, 10)))
    assert figures["service_ms"] == dict.fromkeys(PERCENTILES, 2.0)
    assert figures["ms"]["p99"] > 0
    with serve_replies() as address:
        assert summarize(drive(address, [REQUEST], np.zeros(1)))["service_ms"] == {}


def test_the_objective_is_about_the_slowest_hundredth() -> None:
    figures = summarize(make_run([200] * 100, [0.001] * 98 + [0.02] * 2))
    assert not meets_objective(figures, p99_ms=10, errors=0)
    assert meets_objective(figures, p99_ms=20.1, errors=0)


@settings(deadline=None)
@given(st.lists(st.floats(1e-5, 10.0), min_size=1, max_size=400))
def test_a_percentile_is_a_latency_that_so_many_did_not_exceed(latency_s: list[float]) -> None:
    percentiles = percentiles_ms(np.array(latency_s))
    for name, q in (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9), ("max", 100)):
        assert percentiles[name] == pytest.approx(
            np.percentile(latency_s, q, method="higher") * 1e3, abs=6e-4
        )
        assert np.mean(np.array(latency_s) * 1e3 <= percentiles[name] + 6e-4) >= q / 100 - 1e-9


def test_a_curve_rises_and_has_no_percentile_beyond_its_samples() -> None:
    latency_s = np.random.default_rng(0).exponential(0.01, 500).tolist()
    points = latency_curve(make_run([200] * 500, latency_s))
    assert [q for q, _ in points] == [0.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 100.0]
    assert [ms for _, ms in points] == sorted(ms for _, ms in points)
    assert points[-1][1] == pytest.approx(max(latency_s) * 1e3, abs=1e-3)


def test_a_request_belongs_to_the_second_in_which_it_was_due() -> None:
    run = make_run([200, 429, NO_REPLY, 200], [5.0, 0.001, 0.002, 0.003], [0.1, 0.9, 1.5, 3.2])
    assert by_second(run) == [
        {"second": 0, "good": 1, "refused": 1, "wrong": 0, "p99_ms": 5000.0},
        {"second": 1, "good": 0, "refused": 0, "wrong": 1, "p99_ms": None},
        {"second": 2, "good": 0, "refused": 0, "wrong": 0, "p99_ms": None},
        {"second": 3, "good": 1, "refused": 0, "wrong": 0, "p99_ms": 3.0},
    ]


# --- the host


def test_our_own_work_is_no_other_load(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, own, now = iter([100.0, 106.0]), iter([10.0, 14.0]), iter([0.0, 4.0])
    monkeypatch.setattr("loadtests.host._busy_s", lambda: next(busy))
    monkeypatch.setattr("loadtests.host._own_s", lambda: next(own))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    other_load = OtherLoad(clock=lambda: next(now))
    assert other_load.share() == 0.25  # 6 s of work, 4 of them ours, on 2 cores for 4 s


def test_a_core_that_stands_still_is_noticed() -> None:
    times = iter([0.0, 1e-6, 0.1, 0.1 + 2e-4, 0.5, 1.0])  # gaps under half a millisecond do not count
    jitter = watch_clock(1.0, clock=lambda: next(times))
    assert jitter["share"] == pytest.approx(1.0 - 1e-6 - 2e-4)
    assert jitter["longest_ms"] == 500.0
    assert 0 <= measure_jitter(0.05)["share"] < 1
