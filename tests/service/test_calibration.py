"""Predicted seconds are compared with what came back: each exposure once, over workers, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.telemetry.calibration import PERIOD_S, REMEMBERED, Calibration
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, served

VERSION = "20261121-1a2b3c4d"


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def counts(registry: CollectorRegistry, from_s: int) -> dict[str, float]:
    """The four counters of a bin."""
    labels = {"version": VERSION, "from_s": str(from_s)}
    names = ("exposures", "predicted_seconds", "watched_seconds", "longer")
    found = ((n, registry.get_sample_value(f"reelrank_calibration_{n}_total", labels)) for n in names)
    return {name: value or 0.0 for name, value in found}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 600), min_size=1, max_size=6))
def test_an_exposure_counts_once_with_its_longest_watch_time(watch_times_s: list[float]) -> None:
    registry = CollectorRegistry()
    calibration = Calibration(registry)
    calibration.remember(VERSION, "r", "u", [("v", 12.0, 8.0), ("w", 3.0, 2.0)])
    for watch_time_s in watch_times_s:
        calibration.compare("r", "u", "v", watch_time_s)
    longest_s = max(watch_times_s)
    assert counts(registry, 10) == pytest.approx(
        {
            "exposures": 1,
            "predicted_seconds": 12.0,
            "watched_seconds": longest_s,
            "longer": float(longest_s > 8.0),
        }
    )
    assert not any(counts(registry, 0).values())


@pytest.mark.parametrize("named", [("other", "u", "v"), ("r", "other", "v"), ("r", "u", "other")])
def test_what_no_remembered_slate_has_shown_to_the_user_does_not_count(named: tuple[str, str, str]) -> None:
    registry = CollectorRegistry()
    calibration = Calibration(registry)
    calibration.remember(VERSION, "r", "u", [("v", 12.0, 8.0)])
    calibration.compare(*named, 5.0)
    assert not any(counts(registry, 10).values())


def test_one_slate_a_period_is_remembered() -> None:
    clock = Clock()
    calibration = Calibration(CollectorRegistry(), now_s=clock)
    taken = []
    for clock.now_s in (0.0, 0.1, PERIOD_S - 0.01, PERIOD_S, PERIOD_S + 0.5, 5 * PERIOD_S):
        taken.append(calibration.take_turn())
    assert taken == [True, False, False, True, False, True]


def test_a_worker_compares_what_another_one_has_ranked(tmp_path: Path) -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    ranking, labelling = (Calibration(registry, tmp_path) for registry in registries)
    ranking.remember(VERSION, "r", "u", [("v", 12.0, 8.0)])
    labelling.compare("r", "u", "v", 4.0)
    ranking.compare("r", "u", "v", 9.0)
    assert [counts(registry, 10)["exposures"] for registry in registries] == [0, 1]
    assert [counts(registry, 10)["watched_seconds"] for registry in registries] == [5.0, 4.0]


def test_the_table_stays_as_large_as_it_was(tmp_path: Path) -> None:
    calibration = Calibration(CollectorRegistry(), tmp_path)
    (table,) = tmp_path.iterdir()
    size = table.stat().st_size
    predictions = [(str(video), 12.0, 8.0) for video in range(2_000)]
    for request in range(5):
        calibration.remember(VERSION, str(request), "u", predictions)
    assert table.stat().st_size == size < 8 * 2**20


def total(client: httpx2.Client, counter: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(x.split()[1]) for x in lines if x.startswith(f"reelrank_calibration_{counter}_total{{"))


def test_events_are_compared_with_the_slate_that_they_name(tmp_path: Path) -> None:
    """A preview is no slate, and an event that is not stored did not come back."""
    candidates = [{"video_id": f"v{i}", "duration_s": 10.0 + i} for i in range(REMEMBERED + 8)]
    slate = {"user_id": "alice", "request_id": "r", "timestamp_ms": NOW_MS, "candidates": candidates}
    bundle = tiny_bundle.write(tmp_path / tiny_bundle.FIRST, expected=True)
    with served(bundle, MemoryStore(), tmp_path / "data") as client:
        client.post("/v1/preview/rerank", json=slate | {"request_id": "p"}).raise_for_status()
        items = client.post("/rerank", json=slate).raise_for_status().json()["items"]
        for request_id in ("p", "r"):
            events = [
                event(f"{request_id}{i}", video_id=item["video_id"], request_id=request_id, watch_time_s=7.0)
                for i, item in enumerate(items)
            ]
            client.post("/label?store=false", json=events).raise_for_status()
            assert total(client, "exposures") == 0
            client.post("/label", json=events).raise_for_status()
        assert total(client, "exposures") == REMEMBERED
        first = items[:REMEMBERED]
        expected_s = sum(item["expected_watch_time_s"] for item in first)
        assert total(client, "predicted_seconds") == pytest.approx(expected_s, rel=1e-5)
        assert total(client, "watched_seconds") == pytest.approx(7.0 * REMEMBERED)
        assert total(client, "longer") == sum(item["watch_time_s"] < 7.0 for item in first)
