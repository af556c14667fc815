"""Promises about events: nothing lost, nothing doubled, in whatever order they come."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.faults.proxy import FaultProxy
from service.state import EmbeddedServer
from tests.service.running import NOW_MS, Service, event, eventually, running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

KEPT = 5
"""Sequence length of the pair of workers."""


def post(client: httpx2.Client, *events: dict[str, Any]) -> dict[str, Any]:
    reply = client.post("/label", json=list(events))
    found: dict[str, Any] = reply.raise_for_status().json()
    return found


def sequence(client: httpx2.Client, user: str) -> list[dict[str, Any]]:
    reply = client.get(f"/users/{user}/sequence")
    events: list[dict[str, Any]] = reply.raise_for_status().json()["events"]
    return events


class Sender(threading.Thread):
    """Sends events, one a request, ten users in turn, until it cannot; remembers what was acknowledged."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service
        self.acknowledged: list[tuple[str, str]] = []
        self.stop = threading.Event()

    def run(self) -> None:
        with self._service.client() as client:
            number = 0
            while not self.stop.is_set():
                sent = event(f"e{number}", f"u{number % 10}", timestamp_ms=NOW_MS + number)
                try:
                    reply = client.post("/label", json=sent)
                except httpx2.HTTPError:
                    return
                if reply.status_code == 200:
                    self.acknowledged.append((sent["user_id"], sent["event_id"]))
                number += 1


def stored_events(service: Service) -> list[tuple[str, str]]:
    with service.client() as client:
        return [(f"u{i}", e["event_id"]) for i in range(10) for e in sequence(client, f"u{i}")]


@pytest.mark.parametrize("victim", ["service", "store"])
def test_01_an_acknowledged_event_survives_kill_9(bundles: Path, tmp_path: Path, victim: str) -> None:
    env = {"REELRANK_SEQUENCE_LENGTH": "100000"}
    own = EmbeddedServer(tmp_path / "store", "always")
    if victim == "store":
        own.start()
        env["REELRANK_STORE"] = own.url
    try:
        with running(bundles, tmp_path / "data", "--workers", "2", **env) as service:
            sender = Sender(service)
            sender.start()
            assert eventually(lambda: len(sender.acknowledged) >= 60, 30)
            if victim == "store":
                assert own.pid is not None
                os.kill(own.pid, signal.SIGKILL)
                own.stop()
                time.sleep(0.1)
                own.start()
                before = len(sender.acknowledged)
                assert eventually(lambda: len(sender.acknowledged) >= before + 20, 30)
                sender.stop.set()
            else:
                service.process.kill()
                service.process.wait()
            sender.join()
        with running(bundles, tmp_path / "data", **env) as service:
            found = stored_events(service)
    finally:
        own.stop()
    assert set(sender.acknowledged) <= set(found), "lost"
    assert len(found) == len(set(found)), "doubled"


VERSIONS = st.fixed_dictionaries(
    {
        "number": st.integers(0, 3),
        "watch_time_s": st.sampled_from([0.0, 6.0, 12.0, 18.0]),
        "like": st.booleans(),
    }
)


def test_02_the_same_event_id_again_changes_nothing_and_gets_the_same_answer(
    pair: httpx2.Client, new_user: Callable[[], str]
) -> None:
    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(history=st.lists(VERSIONS, min_size=1, max_size=8))
    def holds(history: list[dict[str, Any]]) -> None:
        user = new_user()
        known: dict[str, tuple[float, bool]] = {}
        last: dict[str, Any] = {}
        for version in history:
            id_ = f"{user}-{version['number']}"
            watched, liked = known.get(id_, (0.0, False))
            merged = (max(watched, version["watch_time_s"]), liked or version["like"])
            kind = "accepted" if id_ not in known else "duplicates" if known[id_] == merged else "merged"
            known[id_] = merged
            sent = event(id_, user, watch_time_s=version["watch_time_s"], like=version["like"])
            reply = post(pair, sent)
            assert [reply[k] for k in ("accepted", "duplicates", "merged")] == [
                int(kind == k) for k in ("accepted", "duplicates", "merged")
            ]
            (label,) = reply["labels"]
            assert label["label"] == pytest.approx(merged[0] / 24)
            assert label["duplicate"] == (kind == "duplicates")
            last[id_] = (sent, label)
        before = sequence(pair, user)
        for sent, label in last.values():
            again = post(pair, sent, sent)
            assert again["duplicates"] == 2
            assert again["labels"] == [label | {"duplicate": True}] * 2
        assert sequence(pair, user) == before
        assert len(before) == len(known)

    holds()


def test_03_any_order_with_any_repetition_leaves_the_same_sequence(
    pair: httpx2.Client, new_user: Callable[[], str]
) -> None:
    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(data=st.data(), moments=st.lists(st.integers(0, 3), min_size=1, max_size=9))
    def holds(data: st.DataObject, moments: list[int]) -> None:
        user = new_user()
        events = [event(f"{user}-{i}", user, timestamp_ms=NOW_MS + at) for i, at in enumerate(moments)]
        repeated = data.draw(st.lists(st.sampled_from(events), max_size=6))
        order = data.draw(st.permutations(events + repeated))
        size = data.draw(st.integers(1, len(order)))
        for first in range(0, len(order), size):
            post(pair, *order[first : first + size])
        newest = sorted(events, key=lambda e: (e["timestamp_ms"], e["event_id"]))[-KEPT:]
        assert sequence(pair, user) == newest

    holds()


def test_04_late_events_are_counted_and_not_stored_and_those_of_the_future_are_refused(
    bundles: Path, tmp_path: Path
) -> None:
    now_ms = int(time.time() * 1000)
    with running(bundles, tmp_path, REELRANK_LATE_S="3600") as service, service.client() as client:
        sent = [
            event("late", timestamp_ms=now_ms - 3_700_000),
            event("old enough", timestamp_ms=now_ms - 3_500_000),
            event("now", timestamp_ms=now_ms),
            event("clock ahead", timestamp_ms=now_ms + 200_000),
            event("future", timestamp_ms=now_ms + 400_000),
        ]
        reply = client.post("/label", json=sent).json()
        codes = {r["event_id"]: r["code"] for r in reply["rejected"]}
        assert codes == {"late": "late", "future": "clock_skew"}
        assert "late" in [label["event_id"] for label in reply["labels"]]
        assert [e["event_id"] for e in sequence(client, "alice")] == ["old enough", "now", "clock ahead"]
        metrics = client.get("/metrics").text
        assert 'reelrank_events_total{outcome="late"} 1.0' in metrics
        assert 'reelrank_events_total{outcome="clock_skew"} 1.0' in metrics


def test_05_without_the_store_slates_go_on_degraded_and_no_event_is_falsely_acknowledged(
    bundles: Path, tmp_path: Path
) -> None:
    slate = {"user_id": "alice", "candidates": [{"video_id": "v1"}, {"video_id": "v2"}]}
    with EmbeddedServer(tmp_path / "store") as store, FaultProxy(store.url.removeprefix("unix://")) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        with running(bundles, tmp_path / "data", REELRANK_STORE=url) as service, service.client() as client:
            client.post("/label", json=event("e0")).raise_for_status()
            for number, fault in enumerate((proxy.refuse, proxy.half_open), 1):
                fault()
                sent = event(f"e{number}", timestamp_ms=NOW_MS + number)
                refused = client.post("/label", json=sent)
                assert refused.status_code == 503
                assert int(refused.headers["retry-after"]) >= 1
                for _ in range(5):
                    reply = client.post("/rerank", json=slate, headers={"x-deadline-ms": "10000"})
                    assert (reply.status_code, reply.json()["degraded"]) == (200, ["history"])
                    assert reply.json()["took_ms"] < 10_000
                assert client.get("/health/ready").json()["degraded"] == ["store"]
                proxy.heal()
                assert eventually(lambda sent=sent: client.post("/label", json=sent).status_code == 200)  # type: ignore[misc]
                assert eventually(lambda: client.post("/rerank", json=slate).json()["degraded"] == [], 20)
            assert [e["event_id"] for e in sequence(client, "alice")] == ["e0", "e1", "e2"]
