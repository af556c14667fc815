"""A second version scores requests unseen: what it is measured at, and that nothing else notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.background import QUEUE_SIZE, BackgroundWorker
from service.pipeline.labelling import Labels
from service.pipeline.ranking import Slate
from service.pipeline.shadow import label_differences, order_agreement, slate_differences
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, served
from tests.service.tiny_bundle import FIRST, TROUBLE_S

MIRROR = "20260105-00000005"
"""Twice the watch times, `interest` upside down, 0.75 of the label."""
FAILING = "20260106-00000006"
NAN = "20260107-00000007"
CANDIDATES = [{"video_id": f"v{i}", "author_id": f"a{i}", "duration_s": 20.0} for i in range(20)]
INTEREST = {"interest": 1.0}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    tiny_bundle.write_root(folder, FIRST)
    tiny_bundle.write(folder / MIRROR, MIRROR, scale=0.75, twist="mirror")
    tiny_bundle.write(folder / FAILING, FAILING, twist="raise")
    tiny_bundle.write(folder / NAN, NAN, twist="nan")
    return folder


@contextmanager
def app(root: Path, tmp_path: Path, version: str, share: float = 1.0) -> Iterator[httpx2.Client]:
    with served(root, MemoryStore(), tmp_path / "data") as client:
        reply = client.post(f"/v1/models/{version}:shadow", json={"share": share})
        assert reply.json()["shadow"] == {"version": version, "share": share}
        yield client


def rerank(client: httpx2.Client, candidates: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    reply = client.post("/rerank", json={"user_id": "u", "candidates": candidates} | members)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    assert answer["model_version"] == FIRST
    return answer


def metric(client: httpx2.Client, name: str, **labels: str) -> float | None:
    """The value of one series of `reelrank_shadow…`."""
    written = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()))
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"reelrank_shadow{name}{{{written}}} "):
            return float(line.rpartition(" ")[2])
    return None


def count(client: httpx2.Client, version: str, endpoint: str, outcome: str) -> float:
    return metric(client, "_total", version=version, endpoint=endpoint, outcome=outcome) or 0.0


# --- end to end


def test_known_differences_are_measured_under_the_shadows_own_version(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path, MIRROR) as client:
        items = rerank(client, CANDIDATES, weights=INTEREST)["items"]
        assert [item["video_id"] for item in items] == [f"v{i}" for i in reversed(range(20))]
        client.post("/label", json=[event("e1"), event("e2", watch_time_s=24.0)]).raise_for_status()
        for endpoint in ("rerank", "label"):
            assert eventually(lambda: count(client, MIRROR, endpoint, "compared") == 1)  # noqa: B023
            assert metric(client, "_seconds_count", version=MIRROR, endpoint=endpoint) == 1

        watched = np.mean([item["watch_time_s"] for item in items])  # the shadow's are twice as long
        scores = np.mean([abs(2 * item["score"] - 1) for item in items])  # and sigmoid(-x) = 1 - sigmoid(x)
        labels = np.mean([0.25 * 0.5, 0.25 * 1.0])
        for name, what, want in (
            ("_difference", "watch_time_s", watched),
            ("_difference", "score", scores),
            ("_difference", "label.labelcraft", labels),
            ("_order", "kendall_tau", -1.0),
            ("_order", "overlap_at_10", 0.0),
        ):
            assert metric(client, f"{name}_sum", version=MIRROR, what=what) == pytest.approx(want, abs=1e-5)
            assert metric(client, f"{name}_count", version=MIRROR, what=what) == 1
        assert metric(client, "_order_count", version=FIRST, what="kendall_tau") is None


def test_a_shadow_that_is_the_same_model_differs_in_nothing(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path, FAILING) as client:  # fails at no duration but one
        rerank(client, CANDIDATES)
        assert eventually(lambda: count(client, FAILING, "rerank", "compared") == 1)
        assert metric(client, "_difference_sum", version=FAILING, what="watch_time_s") == 0
        assert metric(client, "_difference_sum", version=FAILING, what="score") == 0
        assert metric(client, "_order_sum", version=FAILING, what="kendall_tau") == 1
        assert metric(client, "_order_sum", version=FAILING, what="overlap_at_10") == 1


@pytest.mark.parametrize("version", [FAILING, NAN])
def test_a_shadow_that_fails_is_counted_and_changes_nothing(root: Path, tmp_path: Path, version: str) -> None:
    slate = [{"video_id": "v1", "duration_s": TROUBLE_S}]
    with served(root, MemoryStore(), tmp_path / "alone") as client:
        alone = rerank(client, slate)["items"]
    with app(root, tmp_path, version) as client:
        for _ in range(3):
            assert rerank(client, slate)["items"] == alone
        assert eventually(lambda: count(client, version, "rerank", "failed") == 3)
        assert metric(client, "_difference_count", version=version, what="score") is None
        assert client.get("/health/ready").status_code == 200


def test_a_shadow_sees_its_share_and_after_its_end_nothing(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path, MIRROR, share=0.5) as client:
        for _ in range(60):
            rerank(client, CANDIDATES[:1])

        def sampled() -> float:
            return count(client, MIRROR, "rerank", "compared") + count(client, MIRROR, "rerank", "dropped")

        assert eventually(lambda: sampled() > 10)
        reply = client.post(f"/v1/models/{MIRROR}:shadow", json={"share": 0})
        assert reply.json()["shadow"] is None
        before = -1.0
        while before != (before := sampled()):  # those that were waiting are compared still
            time.sleep(0.5)
        assert before < 50  # 5 standard deviations above the half
        for _ in range(20):
            rerank(client, CANDIDATES[:1])
        assert not eventually(lambda: sampled() != before, seconds=0.5)


def test_the_users_of_a_split_are_not_compared_with_themselves(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path, MIRROR) as client:
        client.post(f"/v1/models/{MIRROR}:split", json={"share": 1}).raise_for_status()
        reply = client.post("/rerank", json={"user_id": "u", "candidates": CANDIDATES})
        assert reply.json()["model_version"] == MIRROR
        client.post(f"/v1/models/{MIRROR}:split", json={"share": 0}).raise_for_status()
        rerank(client, CANDIDATES)
        assert eventually(lambda: count(client, MIRROR, "rerank", "compared") == 1)


# --- the background worker


def test_what_there_is_no_room_for_is_refused_at_once_and_nothing_waits() -> None:
    worker, go, done = BackgroundWorker(), threading.Event(), []

    def wait() -> None:
        go.wait(10)

    try:
        assert worker.try_submit(wait)
        assert eventually(lambda: worker.queued == 0)  # the thread has taken it
        assert all(worker.try_submit(lambda: done.append(1)) for _ in range(QUEUE_SIZE))
        assert not worker.try_submit(lambda: done.append(1))
        assert done == []
        go.set()
        assert eventually(lambda: len(done) > 0)
    finally:
        go.set()
        worker.close()


def test_a_job_that_raises_does_not_end_the_next(caplog: pytest.LogCaptureFixture) -> None:
    worker, done = BackgroundWorker(), threading.Event()
    worker.try_submit(lambda: [][1])
    worker.try_submit(done.set)
    assert done.wait(10)
    worker.close()
    assert "a background job failed" in caplog.text


def test_closing_lets_the_job_in_hand_finish_and_gives_up_the_rest() -> None:
    worker, go, done = BackgroundWorker(), threading.Event(), []

    def first() -> None:
        go.wait(10)
        done.append("first")

    worker.try_submit(first)
    assert eventually(lambda: worker.queued == 0)
    worker.try_submit(lambda: done.append("second"))
    closing = threading.Thread(target=worker.close)
    closing.start()
    assert eventually(lambda: worker.closing)
    go.set()
    closing.join()
    assert done == ["first"]


# --- comparing


def slate(score: list[float], watch_time_s: list[float] | None = None) -> Slate:
    scores = np.array(score, np.float32)
    seconds = np.array(watch_time_s or score, np.float32)
    order = np.argsort(-scores, kind="stable")
    return Slate(order, scores, ("watch_time_s",), seconds[None], None, {}, ())


def test_one_exchanged_pair_of_four_costs_two_of_six() -> None:
    found = order_agreement(slate([4, 3, 2, 1]), slate([3, 4, 2, 1]))
    assert found == {"kendall_tau": pytest.approx(4 / 6), "overlap_at_10": 1.0}


def test_the_first_tens_of_eleven_differ_by_one_when_the_last_becomes_the_first() -> None:
    down = [float(11 - i) for i in range(11)]
    found = order_agreement(slate(down), slate([*down[:10], 99.0]))
    assert found == {"kendall_tau": pytest.approx((55 - 20) / 55), "overlap_at_10": 0.9}


def test_a_slate_of_one_has_no_order() -> None:
    assert order_agreement(slate([1]), slate([2])) == {"overlap_at_10": 1.0}


def test_differences_are_means_of_absolute_ones() -> None:
    found = slate_differences(slate([0.5, 0.5], [1.0, 3.0]), slate([0.25, 1.0], [2.0, 1.0]))
    assert found == {"watch_time_s": 1.5, "score": 0.375}
    nothing = np.zeros((2, 8), np.float32)
    answer = Labels({"a": [0.5, 0.5], "b": [1.0, 1.0]}, {}, (), nothing)
    other = Labels({"a": [0.0, 1.0]}, {}, (), nothing)
    assert label_differences(answer, other) == {"a": 0.5}


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30), st.randoms())
def test_agreement_is_symmetric_and_full_with_oneself(score: list[float], rng: Any) -> None:
    other = rng.sample(score, len(score))
    one, two = slate(score), slate(other)
    assert order_agreement(one, two) == pytest.approx(order_agreement(two, one))
    assert order_agreement(one, one) == {"kendall_tau": 1.0, "overlap_at_10": 1.0}
