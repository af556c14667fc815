"""Previews: what /rerank and /label would answer, by a version of choice, without a trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.errors import Overloaded
from service.overload.budget import Budget
from service.overload.spare import MAX_PREVIEWS, SpareCapacity
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, eventually, served
from tests.service.tiny_bundle import FIRST, SECOND

SLATE: dict[str, Any] = {
    "user_id": "alice",
    "timestamp_ms": NOW_MS + 60_000,
    "candidates": [{"video_id": f"v{i}", "duration_s": 10.0 + i, "author_id": f"a{i}"} for i in range(4)],
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A service of their own: some tests look at its counts."""
    root = tmp_path_factory.mktemp("bundles")
    tiny_bundle.write_root(root, FIRST, SECOND)
    with served(root, MemoryStore(), root / "data") as http:
        http.post(
            "/label",
            json=[event("e1"), event("e2", video_id="v2", timestamp_ms=NOW_MS + 1, watch_time_s=3.0)],
        ).raise_for_status()
        yield http


def answers(client: httpx2.Client, path: str, body: Any, **params: Any) -> dict[str, Any]:
    reply = client.post(path, json=body, params=params)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer | {"took_ms": None, "request_id": None}


@pytest.mark.parametrize("explain", ["true", "false"])
def test_a_previewed_slate_is_the_slate(client: httpx2.Client, explain: str) -> None:
    answered = answers(client, "/rerank", SLATE, explain=explain)
    assert answers(client, "/v1/preview/rerank", SLATE, explain=explain) == answered


def test_a_version_on_trial_can_be_previewed_beside_the_active_one(client: httpx2.Client) -> None:
    client.post(f"/v1/models/{SECOND}:shadow", json={"share": 0.01}).raise_for_status()
    slates = [answers(client, "/v1/preview/rerank", SLATE, version=v) for v in (FIRST, SECOND)]
    assert [slate["model_version"] for slate in slates] == [FIRST, SECOND]
    labels = [answers(client, "/v1/preview/label", [event()], version=v) for v in (FIRST, SECOND)]
    assert [label["labels"][0]["label"] for label in labels] == [0.5, 0.375]
    client.post(f"/v1/models/{SECOND}:shadow", json={"share": 0}).raise_for_status()


def test_a_version_that_is_not_in_memory_is_named_with_those_that_are(client: httpx2.Client) -> None:
    for path, body in (("rerank", SLATE), ("influence", SLATE), ("label", [event()])):
        reply = client.post(f"/v1/preview/{path}", json=body, params={"version": SECOND})
        assert reply.status_code == 404
        assert FIRST in reply.json()["detail"]


def test_previews_leave_no_trace(client: httpx2.Client) -> None:
    """Neither in the store, nor in the counts of answers, events, candidates and values."""

    def trace() -> list[str]:
        counted = ("reelrank_answers", "reelrank_events", "reelrank_candidates", "reelrank_values")
        lines = client.get("/metrics").text.splitlines()
        return [line for line in lines if line.startswith(counted)] + [
            client.get("/users/alice/sequence").text
        ]

    before = trace()
    answers(client, "/v1/preview/rerank", SLATE, explain="true")
    answers(client, "/v1/preview/influence", SLATE)
    answers(client, "/v1/preview/label", [event("e9")])
    assert trace() == before


def test_an_influence_is_the_score_with_an_exposure_minus_that_without_it(client: httpx2.Client) -> None:
    """Another user, who has had only the other exposure, has the score without it."""
    reply = answers(client, "/v1/preview/influence", SLATE)
    slate = answers(client, "/rerank", SLATE)
    assert [item["video_id"] for item in reply["items"]] == [item["video_id"] for item in slate["items"]]
    for item, ranked in zip(reply["items"], slate["items"], strict=True):
        assert (item["score"], item["watch_time_s"]) == (ranked["score"], ranked["watch_time_s"])
        assert [e["video_id"] for e in item["exposures"]] == ["v1", "v2"]
    for position, other in ((1, event("e3")), (0, event("e4", video_id="v2", watch_time_s=3.0))):
        alone = other | {"user_id": other["event_id"], "timestamp_ms": NOW_MS + 1 - position}
        client.post("/label", json=[alone]).raise_for_status()
        without = answers(client, "/rerank", SLATE | {"user_id": alone["user_id"]})
        scores = {item["video_id"]: item["score"] for item in without["items"]}
        for item in reply["items"]:
            added = item["exposures"][position]["score"]
            assert added == pytest.approx(item["score"] - scores[item["video_id"]], abs=3e-6)


def test_a_user_without_a_history_has_no_influences(client: httpx2.Client) -> None:
    reply = answers(client, "/v1/preview/influence", SLATE | {"user_id": "new"})
    assert [item["exposures"] for item in reply["items"]] == [[], [], [], []]


def test_influences_are_of_few_candidates(client: httpx2.Client) -> None:
    many = SLATE | {"candidates": [{"video_id": f"v{i}"} for i in range(21)]}
    reply = client.post("/v1/preview/influence", json=many)
    assert (reply.status_code, reply.json()["errors"][0]["loc"]) == (422, "candidates")


def test_previews_make_room_for_requests() -> None:
    budget = Budget(1000, "candidates", "LIMIT")
    spare = SpareCapacity([budget])
    with budget.take(250), spare.take(10_000):
        assert budget.used == 250  # a preview takes nothing of it
    with budget.take(251), pytest.raises(Overloaded), spare.take(1):
        pass
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_PREVIEWS):
            stack.enter_context(spare.take(1))
        with pytest.raises(Overloaded):
            stack.enter_context(spare.take(1))
    with spare.take(1):
        pass


def test_one_version_has_the_distributions_of_its_training_rows(client: httpx2.Client) -> None:
    listed = client.get("/v1/models").json()["models"]
    for model in listed:
        found = client.get(f"/v1/models/{model['version']}").json()
        assert {"learned_labels", "evaluation", "reference"} == found.keys() - model.keys()
        assert model.items() <= found.items()
    assert client.get("/v1/models/20990101-00000000").status_code == 404


def test_a_key_knows_its_rights(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, FIRST)
    with served(root, MemoryStore(), tmp_path / "data", api_keys="k:read+label") as client:
        assert client.get("/v1/key").status_code == 401
        reply = client.get("/v1/key", headers={"authorization": "Bearer k"})
        assert reply.json() == {"rights": ["label", "read"]}


def test_the_newest_logged_slates_can_be_read(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, FIRST)
    with served(root, MemoryStore(), tmp_path / "data", log_dir=tmp_path / "log") as client:
        assert client.get("/v1/slates").json() == []
        for number in range(3):
            answers(client, "/rerank", SLATE | {"request_id": f"r{number}", "timestamp_ms": NOW_MS + number})
        answers(client, "/v1/preview/rerank", SLATE)  # leaves no trace here, either
        assert eventually(lambda: len(client.get("/v1/slates").json()) == 3)
        (path,) = (tmp_path / "log").glob("slates-*")
        with path.open("ab") as file:
            file.write(b"damaged\n")
        newest, _ = client.get("/v1/slates", params={"limit": 2}).json()
        assert (newest["request_id"], newest["user_id"], newest["timestamp_ms"]) == (
            "r2",
            "alice",
            NOW_MS + 2,
        )
        assert sorted(newest["video_id"]) == ["v0", "v1", "v2", "v3"]
        for limit in ("0", "101", "x", ""):
            assert client.get("/v1/slates", params={"limit": limit}).status_code == 422


def test_without_a_log_there_are_no_logged_slates(client: httpx2.Client) -> None:
    assert client.get("/v1/slates").json() == []
