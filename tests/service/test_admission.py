"""Admission over real HTTP: what is refused, what waits, and what ends at its deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.schema import FeedbackEvent
from service.overload.admission import SLATE_COST
from service.overload.budget import MAX_RETRY_AFTER_S
from service.pipeline.label import STEP
from service.state import Outcome, UserState
from tests.service.exchanges import Dialogue, line, metric
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, served

NDJSON = {"content-type": "application/x-ndjson"}


class Slow(MemoryStore):
    """Answers late, or keeps the whole event loop busy."""

    def __init__(self, *, waits_s: float = 0.0, blocks_s: float = 0.0) -> None:
        super().__init__()
        self._waits_s = waits_s
        self._blocks_s = blocks_s
        self.busy = threading.Event()

    async def _be_slow(self) -> None:
        await asyncio.sleep(self._waits_s)
        self.busy.set()
        time.sleep(self._blocks_s)  # what a long computation on the loop does to all requests

    async def read(self, user_id: str) -> UserState | None:
        if user_id != "probe":
            await self._be_slow()
        return await super().read(user_id)

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        await self._be_slow()
        return await super().record(user_id, events)


class Gated(MemoryStore):
    """Does one operation only once its gate is open."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self._operation = operation
        self.gate = threading.Event()

    async def _pass(self, operation: str) -> None:
        while operation == self._operation and not self.gate.is_set():
            await asyncio.sleep(0.005)

    async def read(self, user_id: str) -> UserState | None:
        if user_id != "probe":
            await self._pass("read")
        return await super().read(user_id)

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        await self._pass("record")
        return await super().record(user_id, events)


def slate(count: int) -> dict[str, Any]:
    return {"user_id": "u", "candidates": [{"video_id": f"v{i}", "duration_s": 9.0} for i in range(count)]}


@contextmanager
def concurrently(
    client: httpx2.Client, count: int, path: str, **request: Any
) -> Iterator[list[httpx2.Response]]:
    """So many of the same request at once, each on a connection of its own; answered at the end of the
    block."""
    answers: list[httpx2.Response] = []

    def ask(_: int) -> httpx2.Response:
        with httpx2.Client(base_url=client.base_url, timeout=60) as own:
            return own.post(path, **request)

    with ThreadPoolExecutor(count) as threads:
        asked = [threads.submit(ask, i) for i in range(count)]
        yield answers
        answers += [a.result() for a in asked]


def test_slates_over_the_budget_are_refused_at_once_and_labels_go_on(bundles: Path, tmp_path: Path) -> None:
    room = 3 * (SLATE_COST + 20)
    store = Gated("read")
    refusals = 'reelrank_refusals_total{reason="candidates",route="/rerank"}'
    with served(bundles, store, tmp_path, max_inflight_candidates=room) as client:
        with concurrently(client, 12, "/rerank", json=slate(20)) as answers:
            assert eventually(lambda: metric(client, refusals) == 9)
            assert client.post("/label", json=event()).status_code == 200
            store.gate.set()
        good = [a for a in answers if a.status_code == 200]
        refused = [a for a in answers if a.status_code == 429]
        assert (len(good), len(refused)) == (3, 9)
        for answer in refused:
            assert answer.headers["content-type"] == "application/problem+json"
            assert "REELRANK_MAX_INFLIGHT_CANDIDATES" in answer.json()["detail"]
            assert 1 <= int(answer.headers["retry-after"]) <= MAX_RETRY_AFTER_S
            assert answer.headers["x-request-id"]
        assert metric(client, 'reelrank_requests_total{method="POST",route="/rerank",status="429"}') == 9
        assert client.post("/rerank", json=slate(20)).status_code == 200
        assert eventually(lambda: metric(client, 'reelrank_in_flight{what="candidates"}') == 0)


def test_labels_over_the_budget_are_refused_and_slates_go_on(bundles: Path, tmp_path: Path) -> None:
    store = Gated("record")
    refusals = 'reelrank_refusals_total{reason="events",route="/label"}'
    options = {"max_inflight_events": 100, "label_deadline_ms": 60_000}
    with served(bundles, store, tmp_path, **options) as client:
        body = [event(f"e{i}") for i in range(20)]
        with concurrently(client, 6, "/label", json=body) as answers:
            assert eventually(lambda: metric(client, refusals) == 5)
            assert client.post("/rerank", json=slate(5)).status_code == 200
            store.gate.set()
        assert sorted(a.status_code for a in answers) == [200] + [429] * 5
        assert client.post("/label", json=body).json()["duplicates"] == 20


def test_what_is_larger_than_the_budget_is_taken_when_it_is_alone(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, max_inflight_candidates=1, max_inflight_events=2) as client:
        assert client.post("/rerank", json=slate(50)).status_code == 200
        assert client.post("/label", json=[event(f"e{i}") for i in range(50)]).json()["accepted"] == 50


def test_single_events_go_on_beside_the_largest_body(bundles: Path, tmp_path: Path) -> None:
    store = Gated("record")
    with served(bundles, store, tmp_path, max_inflight_events=3_000, label_deadline_ms=60_000) as client:
        large = [event(f"e{i}", f"u{i}") for i in range(3_000)]
        with concurrently(client, 1, "/label", json=large) as large_answers:
            assert eventually(lambda: metric(client, 'reelrank_in_flight{what="streamed_events"}') == STEP)
            with concurrently(client, 5, "/label", json=[event("single")]) as answers:
                store.gate.set()
        assert [answer.status_code for answer in answers] == [200] * 5
        reply = large_answers[0].json()
        assert (reply["accepted"], reply["rejected"]) == (3_000, [])
        assert [label["event_id"] for label in reply["labels"]] == [e["event_id"] for e in large]


def test_streams_are_limited_and_wait_for_room(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, Slow(waits_s=0.02), tmp_path, max_streams=3, max_inflight_events=6) as client:
        url = str(client.base_url)
        first, second, third = dialogues = [Dialogue(url) for _ in range(3)]
        for number, dialogue in enumerate(dialogues):
            for i in range(20):  # more than the room there is
                dialogue.say(line(f"e{number}-{i}", f"u{number}") + b"\n")
        for dialogue in dialogues:
            dialogue.headers()
        refused = client.post("/label", content=line("e", "u"), headers=NDJSON)
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert "REELRANK_MAX_STREAMS" in refused.json()["detail"]
        for dialogue in (first, second, third):
            answers: list[Any] = []
            while len(answers) < 20:
                answers += dialogue.hear()
            assert all("label" in answer for answer in answers)
            dialogue.close()

        assert eventually(
            lambda: client.post("/label", content=line("e", "u"), headers=NDJSON).status_code == 200
        )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/label", [event("a", "u1"), event("b", "u2")]),
        ("GET", "/users/u/sequence", None),
    ],
)
def test_what_uses_the_store_ends_at_its_deadline(
    bundles: Path, tmp_path: Path, method: str, path: str, body: Any
) -> None:
    with served(bundles, Slow(waits_s=5), tmp_path, label_deadline_ms=1000) as client:
        client.get("/health/live")  # what the event loop was late by at the start is over then
        late = client.request(method, path, json=body)
        assert late.status_code == 503
        assert "longer than" in late.json()["detail"]
        assert late.headers["retry-after"]
    with served(bundles, Slow(waits_s=0.2), tmp_path, label_deadline_ms=80) as client:
        patient = client.request(method, path, json=body, headers={"X-Deadline-Ms": "60000"})
        assert patient.status_code in (200, 404)


def test_a_request_whose_time_went_by_unseen_is_dropped_before_any_work(
    bundles: Path, tmp_path: Path
) -> None:
    store = Slow(blocks_s=0.5)
    with served(bundles, store, tmp_path) as client:
        client.get("/health/live")
        with concurrently(client, 1, "/rerank", json=slate(5), headers={"X-Deadline-Ms": "60000"}):
            assert store.busy.wait(10)  # the next request waits in the kernel
            late = client.post("/rerank", json=slate(5), headers={"X-Deadline-Ms": "100"})
        assert late.status_code == 429
        assert "before the request was looked at" in late.json()["detail"]
        assert metric(client, 'reelrank_refusals_total{reason="deadline_exceeded",route="/rerank"}') == 1
