"""POST /rerank over real HTTP, line by line of what it promises."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.errors import StoreUnavailable
from models.store import BundleStore
from service.state import UserState
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, served


def rerank(client: httpx2.Client, user: str, candidates: list[Any], **members: Any) -> dict[str, Any]:
    reply = client.post("/rerank", json={"user_id": user, "candidates": candidates} | members)
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def slate(*durations: float) -> list[dict[str, Any]]:
    return [{"video_id": f"v{i}", "duration_s": d} for i, d in enumerate(durations)]


def test_an_unknown_user_has_the_bundles_answer_to_an_empty_history(client: httpx2.Client, user: str) -> None:
    answer = rerank(client, user, slate(20.0), request_id="r1", timestamp_ms=NOW_MS)
    (item,) = answer.pop("items")
    assert answer.pop("took_ms") > 0
    assert answer == {
        "request_id": "r1",
        "model_version": tiny_bundle.FIRST,
        "degraded": [],
        "warnings": [],
        "history_length": 0,
    }
    ratio = tiny_bundle.watch_ratio(d=20.0)
    watch, interest = ratio * 20 / (ratio * 20 + 10), 1 / (1 + math.exp(-0.1))
    assert item == {
        "video_id": "v0",
        "rank": 1,
        "score": pytest.approx(math.sqrt(watch * interest), abs=1e-5),
        "watch_time_s": pytest.approx(ratio * 20, abs=1e-5),
        "watch_ratio": pytest.approx(ratio, abs=1e-5),
        "objectives": {
            "watch_time": pytest.approx(watch, abs=1e-5),
            "interest": pytest.approx(interest, abs=1e-5),
        },
    }


def test_what_label_has_answered_the_next_rerank_sees(client: httpx2.Client, user: str) -> None:
    for n in range(1, 6):
        client.post("/label", json=event(f"{user}-{n}", user, watch_time_s=24.0)).raise_for_status()
        answer = rerank(client, user, slate(20.0))
        assert answer["history_length"] == n
        want = tiny_bundle.watch_ratio(24.0 * n, 24.0 * n, 20.0)
        assert answer["items"][0]["watch_ratio"] == pytest.approx(want, abs=1e-5)


def test_of_a_user_who_is_named_twice_the_last_name_counts(client: httpx2.Client, user: str) -> None:
    client.post("/label", json=event(f"{user}-1", user)).raise_for_status()
    for first, last, length in ((user, "new", 0), ("new", user, 1)):
        body = f'{{"user_id": "{first}", "candidates": [{{"video_id": "v"}}], "user_id": "{last}"}}'
        reply = client.post("/rerank", content=body, headers={"content-type": "application/json"})
        assert reply.json()["history_length"] == length


def test_the_bundle_reads_at_most_the_newest_of_its_sequence_length(client: httpx2.Client, user: str) -> None:
    events = [
        event(f"{user}-{i}", user, timestamp_ms=NOW_MS + i, watch_time_s=float(i >= 10)) for i in range(60)
    ]
    client.post("/label", json=events).raise_for_status()
    answer = rerank(client, user, slate(20.0))
    assert answer["history_length"] == tiny_bundle.SEQUENCE_LENGTH == 50
    want = tiny_bundle.watch_ratio(50.0, 50 * 24.0, 20.0)
    assert answer["items"][0]["watch_ratio"] == pytest.approx(want, abs=1e-5)


def test_score_sorts_and_ties_keep_the_callers_order(client: httpx2.Client, user: str) -> None:
    durations = (20.0, 60.0, 20.0, 90.0, 60.0, 20.0)
    items = rerank(client, user, slate(*durations))["items"]
    assert [i["video_id"] for i in items] == ["v3", "v1", "v4", "v0", "v2", "v5"]
    assert [i["rank"] for i in items] == [1, 2, 3, 4, 5, 6]
    scores = [i["score"] for i in items]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("top_k", "want"), [(1, 1), (2, 2), (3, 3), (2**62, 3), (None, 3)])
def test_top_k_cuts_the_slate(client: httpx2.Client, user: str, top_k: int | None, want: int) -> None:
    items = rerank(client, user, slate(20.0, 30.0, 40.0), top_k=top_k)["items"]
    assert [i["video_id"] for i in items] == ["v2", "v1", "v0"][:want]


def test_weights_override_the_bundles(client: httpx2.Client, user: str) -> None:
    candidates = [
        {"video_id": "long", "duration_s": 90.0},
        {"video_id": "liked", "duration_s": 10.0, "author_id": "a19"},
    ]

    def first(weights: dict[str, float]) -> str:
        return str(rerank(client, user, candidates, weights=weights)["items"][0]["video_id"])

    assert first({"watch_time": 1.0}) == "long"
    assert first({"interest": 2.5}) == "liked"
    assert first({"watch_time": -1.0}) == "liked"


@pytest.mark.parametrize("chosen", [[], ["interest"], ["interest", "watch_time"], ["interest", "interest"]])
def test_a_caller_chooses_which_objectives_are_returned(
    client: httpx2.Client, user: str, chosen: list[str]
) -> None:
    everything = rerank(client, user, slate(20.0, 30.0, 40.0))["items"]
    some = rerank(client, user, slate(20.0, 30.0, 40.0), objectives=chosen)["items"]
    for whole, part in zip(everything, some, strict=True):
        assert part == whole | {"objectives": {name: whole["objectives"][name] for name in chosen}}
    body = {"user_id": user, "candidates": slate(20.0, 30.0, 40.0), "objectives": chosen}
    explained = client.post("/rerank?explain=true", json=body).raise_for_status().json()["items"]
    assert [item["objectives"] for item in explained] == [item["objectives"] for item in some]


@pytest.mark.parametrize(
    ("members", "loc"),
    [
        ({"objectives": ["interest", "nope"]}, "objectives"),
        ({"objectives": "interest"}, "objectives"),
        ({"weights": {"nope": 1.0}}, "weights"),
        ({"weights": {}}, "weights"),
        ({"weights": {"interest": 0.0}}, "weights"),
        ({"weights": {"interest": float("nan")}}, "weights"),
        ({"weights": {"interest": 1e308, "watch_time": 1e308}}, "weights"),
        ({"weights": {"interest": "1"}}, "weights[...]"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"timestamp_ms": -1}, "timestamp_ms"),
        ({"timestamp_ms": 1_651_330_969}, "timestamp_ms"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "a\n"}, "user_id"),
        ({"request_id": "x" * 300}, "request_id"),
        ({"candidates": []}, "candidates"),
        ({"candidates": [{"video_id": "v", "duration_s": -1}]}, "candidates[0].duration_s"),
        ({"candidates": [{"video_id": "v"}, {"duration_s": 1}]}, "candidates[1]"),
        ({"candidates": [{"video_id": "v", "x": 1}]}, "candidates[0]"),
        ({"candidates": "v"}, "candidates"),
        ({"nope": 1}, ""),
    ],
)
def test_a_value_that_breaks_its_rule_is_named(
    client: httpx2.Client, user: str, members: dict[str, Any], loc: str
) -> None:
    body = json.dumps({"user_id": user, "candidates": [{"video_id": "v"}]} | members)
    reply = client.post("/rerank", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    assert [e["loc"] for e in reply.json()["errors"]] == [loc]
    assert reply.json()["errors"][0]["msg"]


def test_more_candidates_than_the_limit_are_refused(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, max_candidates=5) as client:
        assert len(rerank(client, "u", slate(*[10.0] * 5))["items"]) == 5
        body = {"user_id": "u", "candidates": slate(*[10.0] * 6)}
        reply = client.post("/rerank", json=body)
        assert (reply.status_code, reply.json()["errors"][0]["loc"]) == (422, "candidates")


def test_a_video_named_twice_is_ranked_once_and_warned_of(client: httpx2.Client, user: str) -> None:
    candidates = [*slate(20.0, 30.0), {"video_id": "v0", "duration_s": 90.0}, {"video_id": "v0"}]
    answer = rerank(client, user, candidates)
    assert [i["video_id"] for i in answer["items"]] == ["v1", "v0"]
    assert answer["items"] == rerank(client, user, slate(20.0, 30.0))["items"]
    assert len(answer["warnings"]) == 1
    assert "'v0'" in answer["warnings"][0]


def test_members_that_are_missing_come_from_the_catalogue_and_what_is_said_wins(
    client: httpx2.Client, user: str, new_id: Callable[[], str]
) -> None:
    video = new_id()
    entry = {"video_id": video, "duration_s": 90.0, "author_id": "a19"}
    client.put("/videos", json=[entry]).raise_for_status()

    def item(**members: Any) -> dict[str, Any]:
        first: dict[str, Any] = rerank(client, user, [{"video_id": video} | members])["items"][0]
        return first

    assert item() == item(**entry)
    assert item(duration_s=10.0)["watch_ratio"] == pytest.approx(tiny_bundle.watch_ratio(d=10.0), abs=1e-5)
    assert item(duration_s=10.0)["objectives"]["interest"] == item()["objectives"]["interest"]


def test_the_tab_of_a_request_replaces_the_bundles_default(client: httpx2.Client, user: str) -> None:
    def ratio(**members: Any) -> float:
        return float(rerank(client, user, slate(20.0), **members)["items"][0]["watch_ratio"])

    assert ratio() == ratio(tab="1") == pytest.approx(tiny_bundle.watch_ratio(tab_row=3), abs=1e-5)
    assert ratio(tab="0") == pytest.approx(tiny_bundle.watch_ratio(tab_row=2), abs=1e-5)
    assert ratio(tab="new") == pytest.approx(tiny_bundle.watch_ratio(tab_row=1), abs=1e-5)


def test_profile_features_reach_the_ranker(client: httpx2.Client, user: str) -> None:
    client.put("/users", json=[{"user_id": user, "profile": {"age": 50, "city": "1"}}]).raise_for_status()
    answer = rerank(client, user, slate(20.0))
    assert answer["items"][0]["watch_ratio"] == pytest.approx(tiny_bundle.watch_ratio(age=50), abs=1e-5)
    assert answer["history_length"] == 0


def test_an_explanation_adds_up_to_the_score(client: httpx2.Client, user: str) -> None:
    body = {"user_id": user, "candidates": slate(20.0, 60.0), "weights": {"watch_time": 3.0, "interest": 1.0}}
    plain = client.post("/rerank", json=body).json()["items"]
    items = client.post("/rerank?explain=true", json=body).json()["items"]
    for item, without in zip(items, plain, strict=True):
        explanation = item.pop("explanation")
        assert item == without
        assert math.exp(sum(explanation["parts"].values())) == pytest.approx(item["score"], abs=1e-5)
        want = 0.75 * math.log(item["objectives"]["watch_time"])
        assert explanation["parts"]["watch_time"] == pytest.approx(want, abs=1e-5)
        assert [a["weight"] for a in explanation["anchors"]] == [0.25, 0.5, 0.25]
        ratios = [a["watch_ratio"] / item["watch_ratio"] for a in explanation["anchors"]]
        assert ratios == pytest.approx([0.5, 1.0, 1.5], abs=1e-4)
        quantiles = explanation["watch_time_s"]
        assert quantiles["p10"] < quantiles["p50"] < quantiles["p90"]
        assert quantiles["p50"] == item["watch_time_s"]


@pytest.fixture(scope="module")
def expecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A service whose bundle predicts the mean, too."""
    root = tmp_path_factory.mktemp("expecting")
    tiny_bundle.write(root / tiny_bundle.FIRST, expected=True)
    BundleStore(root).promote(tiny_bundle.FIRST)
    with served(root, MemoryStore(), tmp_path_factory.mktemp("data")) as client:
        yield client


def test_items_have_the_mean_beside_the_median_where_the_bundle_has_it(expecting: httpx2.Client) -> None:
    for item in rerank(expecting, "alice", slate(20.0, 60.0))["items"]:
        duration = item["watch_time_s"] / item["watch_ratio"]
        assert item["expected_watch_time_s"] == pytest.approx(item["watch_time_s"] + duration, rel=1e-4)
        assert set(item["objectives"]) == {"watch_time", "interest"}


def test_an_explanation_has_the_states_where_the_bundle_has_them(expecting: httpx2.Client) -> None:
    body = {"user_id": "alice", "candidates": slate(20.0, 60.0)}
    for item in expecting.post("/rerank?explain=true", json=body).raise_for_status().json()["items"]:
        assert item["explanation"]["states"] == {"skip": 0.5, "complete": 0.25, "replay": 0.125}


def test_slates_may_be_sorted_by_the_mean(expecting: httpx2.Client) -> None:
    weights = {"expected_watch_time": 1.0}
    body = {"user_id": "alice", "candidates": slate(20.0, 60.0, 5.0), "weights": weights}
    items = expecting.post("/rerank?explain=true", json=body).raise_for_status().json()["items"]
    assert [item["video_id"] for item in items] == ["v1", "v0", "v2"]
    for item in items:
        mean = item["expected_watch_time_s"]
        assert item["score"] == pytest.approx(mean / (mean + 10), abs=1e-5)
        assert item["explanation"]["parts"]["expected_watch_time"] == pytest.approx(
            math.log(item["score"]), abs=1e-5
        )
        assert set(item["objectives"]) == {"watch_time", "interest"}


def test_a_bundle_without_the_mean_refuses_to_sort_by_it(client: httpx2.Client, user: str) -> None:
    body = {"user_id": user, "candidates": slate(20.0), "weights": {"expected_watch_time": 1.0}}
    reply = client.post("/rerank", json=body)
    assert reply.status_code == 422
    assert "this bundle has watch_time, interest" in reply.text


class Away(MemoryStore):
    async def read(self, user_id: str) -> UserState | None:
        raise StoreUnavailable("The store is away.")

    async def ping(self) -> None:
        raise StoreUnavailable("The store is away.")


class Frozen(MemoryStore):
    async def read(self, user_id: str) -> UserState | None:
        await asyncio.sleep(3600)
        return None


@pytest.mark.parametrize("store", [Away, Frozen])
def test_without_the_store_the_answer_is_from_an_empty_history_and_says_so(
    bundles: Path, tmp_path: Path, store: type[MemoryStore]
) -> None:
    with served(bundles, store(), tmp_path, deadline_ms=4_000) as client:
        client.post("/label", json=event("e1", "alice")).raise_for_status()
        answer = rerank(client, "alice", slate(20.0))
        assert answer["degraded"] == ["history"]
        assert answer["history_length"] == 0
        assert answer["items"][0]["watch_ratio"] == pytest.approx(tiny_bundle.watch_ratio(), abs=1e-5)
        assert 'reelrank_degraded_total{what="history"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize("deadline", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_deadline_that_is_none_is_refused(client: httpx2.Client, user: str, deadline: str) -> None:
    body = {"user_id": user, "candidates": slate(20.0)}
    assert client.post("/rerank", json=body, headers={"x-deadline-ms": deadline}).status_code == 422


def test_extreme_but_valid_durations_have_finite_answers(client: httpx2.Client, user: str) -> None:
    items = rerank(client, user, slate(0.001, 86_400.0, 20.0))["items"]
    for item in items:
        for member in ("score", "watch_time_s", "watch_ratio"):
            assert math.isfinite(item[member])


def test_large_slates_are_computed_like_small_ones(client: httpx2.Client, user: str) -> None:
    many = [{"video_id": f"x{i}", "duration_s": 1 + i / 10} for i in range(2000)]
    items = rerank(client, user, many)["items"]
    assert len(items) == 2000
    for at in (0, 999, 1999):
        one = next(c for c in many if c["video_id"] == items[at]["video_id"])
        alone = rerank(client, user, [one])["items"][0]
        assert items[at]["score"] == pytest.approx(alone["score"], abs=1e-5)
