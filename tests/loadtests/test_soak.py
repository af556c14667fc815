"""The slopes and drifts of a soak, and its requests; a short stream."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from loadtests.driver import Run
from loadtests.environment import Service
from loadtests.soak import MemorySamples, alternating_requests, slope, slopes_and_drifts, soak
from loadtests.stream import stream
from models.runtime import Bundle


def test_a_leak_has_a_slope_and_a_warm_up_has_none() -> None:
    time_s = [float(s) for s in range(0, 1000, 10)]
    memory = MemorySamples(time_s, [100 + max(50 - s, 0) for s in time_s], [10 + s / 3600 for s in time_s])
    #              label, slate (warming up), label, slate, label, slate, label, slate refused
    due_s = np.array([5.0, 10.0, 299.0, 300.0, 699.0, 700.0, 799.0, 800.0])
    latency_s = np.array([9.0, 1.0, 9.0, 0.002, 9.0, 0.004, 9.0, 9.0])
    status = np.array([200, 200, 200, 200, 200, 200, 200, 429])
    run = Run(due_s, latency_s, np.zeros(8), np.zeros(8), latency_s, status)
    figures = slopes_and_drifts(run, memory, 1000.0)
    assert figures["rss_slope_mib_per_h"] == 0.0
    assert figures["store_rss_slope_mib_per_h"] == 1.0
    assert figures["rerank_p50_ms"] == {"first_half": 2.0, "second_half": 4.0}
    assert figures["rerank_p50_drift"] == 1.0
    assert figures["statuses"] == {"200": 7, "429": 1}


def test_two_points_have_no_slope() -> None:
    assert slope(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None


@pytest.mark.slow
def test_no_event_is_sent_twice_and_users_recur(version: Path) -> None:
    source = alternating_requests(Bundle.load(version))
    assert callable(source)
    bodies = [json.loads(source(number).partition(b"\r\n\r\n")[2]) for number in range(1000)]
    events = [body[0]["event_id"] for body in bodies if isinstance(body, list)]
    slates = [body for body in bodies if isinstance(body, dict)]
    assert len(set(events)) == len(events) == len(slates) == 500
    assert len({body["user_id"] for body in slates}) <= 200


@pytest.mark.slow
def test_a_short_soak_and_a_short_stream_add_up(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtests.soak.SATURATE_S", 0.5)
    with Service(version, tmp_path, env={"REELRANK_DEADLINE_MS": "10000"}) as service:
        figures = soak(service, alternating_requests(Bundle.load(version)), 2.0, 0.3)
        streamed = asyncio.run(stream(service, 2_000, store=False))
    assert set(figures["statuses"]) <= {"200", "429", "503"}  # a busy machine is late, not wrong
    assert figures["requests"] == pytest.approx(0.3 * figures["capacity_requests_per_s"] * 2.0, abs=2)
    assert figures["rerank_p50_ms"]["second_half"] > 0
    assert (streamed["adds_up"], streamed["labels"], streamed["rejected"]) == (True, 2_000, 0)
