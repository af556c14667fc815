"""Rules of a slate: each does what it says, in the order that is documented, and says what it did."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import StoreUnavailable
from models.features import Candidates
from service.pipeline.rules import SAME_TAG, Groups, limit, marginal_relevance
from service.slate_rules import Rules
from service.state.protocol import History
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, served

HOUR_MS = 3_600_000


def videos(*rows: str) -> list[dict[str, Any]]:
    """Candidates `v0`, `v1`, ... whose scores fall in this order; a row is author and tag, `-` if unknown."""
    out = []
    for i, row in enumerate(rows):
        author, tag = row.split("/")
        known = {name: x for name, x in (("author_id", author), ("tag", tag)) if x != "-"}
        out.append({"video_id": f"v{i}", "duration_s": 90.0 - 10 * i} | known)
    return out


class Slates:
    """Slates of one user, by watch time alone: a longer video has a greater score."""

    def __init__(self, client: httpx2.Client, user: str) -> None:
        self._client, self._user = client, user

    def post(self, candidates: list[dict[str, Any]], **members: Any) -> httpx2.Response:
        body = {"user_id": self._user, "candidates": candidates, "weights": {"watch_time": 1.0}}
        return self._client.post("/rerank", json=body | {"timestamp_ms": NOW_MS} | members)

    def order(self, candidates: list[dict[str, Any]], **members: Any) -> str:
        """The numbers of the videos, best first."""
        items = self.post(candidates, **members).raise_for_status().json()["items"]
        assert [item["rank"] for item in items] == list(range(1, len(items) + 1))
        return "".join(item["video_id"][1:] for item in items)

    def applied(self, candidates: list[dict[str, Any]], **members: Any) -> list[tuple[str, int, str]]:
        reply = self.post(candidates, **members).raise_for_status().json()
        return [(did["rule"], did["videos"], did["effect"]) for did in reply["applied"]]


@pytest.fixture
def slates(client: httpx2.Client, user: str) -> Slates:
    return Slates(client, user)


SIX = videos("a/x", "a/x", "a/y", "b/y", "b/z", "-/-")


@pytest.mark.parametrize(
    ("rules", "order"),
    [
        ({}, "012345"),
        ({"max_per_author": 1}, "035"),
        ({"max_per_author": 2}, "01345"),
        ({"max_per_tag": 1}, "0245"),
        ({"max_per_author": 1, "max_per_tag": 1}, "035"),
        ({"author_decay": 0.0}, "035124"),
        ({"author_decay": 1.0}, "012345"),
        ({"diversity": 0.0}, "012345"),
        ({"diversity": 1.0}, "035124"),
        ({"pin": {"v4": 1}}, "401235"),
        ({"pin": {"v4": 2, "v0": 6}}, "142350"),
        ({"max_per_author": 1, "pin": {"v4": 1}}, "405"),
        ({"max_per_author": 1, "pin": {"v4": 1, "v3": 2}}, "4305"),
        ({"max_per_author": 1, "pin": {"v4": 6}}, "054"),
    ],
)
def test_each_rule_orders_as_documented(slates: Slates, rules: dict[str, Any], order: str) -> None:
    assert slates.order(SIX, rules=rules) == order


def test_what_one_limit_leaves_out_does_not_count_in_the_other(slates: Slates) -> None:
    candidates = videos("b/x", "a/x", "a/x", "a/y")
    assert slates.order(candidates, rules={"max_per_author": 1, "max_per_tag": 1}) == "03"


def test_unknown_authors_and_tags_are_not_one_group(slates: Slates) -> None:
    candidates = videos("-/-", "-/-", "-/-")
    rules = {"max_per_author": 1, "max_per_tag": 1, "author_decay": 0.1, "diversity": 1.0}
    assert slates.order(candidates, rules=rules) == "012"
    applied = slates.applied(candidates, rules=rules)
    assert {count for _, count, _ in applied} == {0}
    assert "the author of 3 is unknown" in applied[0][2]


def test_the_cut_comes_after_the_rules(slates: Slates) -> None:
    assert slates.order(SIX, rules={"max_per_author": 1}, top_k=2) == "03"
    assert slates.order(SIX, rules={"pin": {"v5": 2}}, top_k=2) == "05"


def test_scores_and_predictions_are_those_without_rules(slates: Slates) -> None:
    plain = slates.post(SIX).json()["items"]
    ruled = slates.post(SIX, rules={"author_decay": 0.5, "diversity": 0.5}).json()["items"]
    by_id = {item["video_id"]: item for item in plain}
    assert [item | {"rank": 0} for item in ruled] == [by_id[i["video_id"]] | {"rank": 0} for i in ruled]
    assert ruled != plain


def test_without_rules_nothing_is_added_to_a_reply(slates: Slates) -> None:
    assert "applied" not in slates.post(SIX).json()
    assert "applied" not in slates.post(SIX, rules=None).json()
    assert slates.post(SIX, rules={}).json()["applied"] == []


def test_seen_and_hated_videos_are_left_out(client: httpx2.Client, user: str, slates: Slates) -> None:
    events = [
        event(f"{user}-1", user, video_id="v1"),
        event(f"{user}-2", user, video_id="v2", author_id="a", hate=True),
    ]
    client.post("/label", json=events).raise_for_status()
    client.put("/users", json=[{"user_id": user, "history": [{"video_id": "v5"}]}]).raise_for_status()
    assert slates.order(SIX, rules={"exclude_seen": True}) == "034"
    assert slates.order(SIX, rules={"exclude_seen": False}) == "012345"
    assert slates.order(SIX, rules={"exclude_hated": "video"}) == "01345"
    assert slates.order(SIX, rules={"exclude_hated": "author"}) == "345"
    both = {"exclude_seen": True, "exclude_hated": "author"}
    assert slates.applied(SIX, rules=both) == [
        ("exclude_seen", 3, "3 of 6 left out: seen by the user"),
        ("exclude_hated", 1, "1 of 3 left out: hated by the user, or of an author of such a video"),
    ]


def test_a_pinned_video_that_is_excluded_stays_out_and_is_named(
    client: httpx2.Client, user: str, slates: Slates
) -> None:
    client.post("/label", json=event(f"{user}-1", user, video_id="v1")).raise_for_status()
    rules = {"exclude_seen": True, "pin": {"v1": 1, "v5": 6}}
    assert slates.order(SIX, rules=rules) == "02345"
    effect = "1 of 2 pinned: 'v1' left out by another rule; 'v5' at 5 instead of 6"
    assert slates.applied(SIX, rules=rules)[-1] == ("pin", 1, effect)


def test_a_slate_may_end_up_empty(client: httpx2.Client, user: str, slates: Slates) -> None:
    client.post("/label", json=event(f"{user}-1", user, video_id="v0")).raise_for_status()
    rules = {
        "exclude_seen": True,
        "fresh_boost": {"hours": 1, "weight": 1},
        "author_decay": 0.5,
        "diversity": 0.5,
        "max_per_tag": 1,
        "pin": {"v0": 1},
    }
    for explain in ("", "?explain=true"):
        body = {"user_id": user, "candidates": videos("a/x"), "rules": rules}
        assert client.post(f"/rerank{explain}", json=body).raise_for_status().json()["items"] == []


def test_fresh_videos_rise_by_the_time_the_request_or_the_catalogue_says(
    client: httpx2.Client, slates: Slates, new_id: Callable[[], str]
) -> None:
    first, second, third = (
        {"video_id": new_id(), "duration_s": duration_s} for duration_s in (50.0, 40.0, 30.0)
    )
    client.put("/videos", json=[third | {"published_ms": NOW_MS - HOUR_MS}]).raise_for_status()
    candidates = [first | {"published_ms": NOW_MS - 100 * HOUR_MS}, second, third]
    rules = {"fresh_boost": {"hours": 48, "weight": 2}}
    items = slates.post(candidates, rules=rules).json()["items"]
    assert [item["video_id"] for item in items] == [v["video_id"] for v in (third, first, second)]
    effect = "1 of 3 raised: published within 48 h; the publication time of 1 is unknown"
    assert slates.applied(candidates, rules=rules) == [("fresh_boost", 1, effect)]
    older = [first, second, third | {"published_ms": NOW_MS - 48 * HOUR_MS}]  # the request's own time counts
    assert slates.post(older, rules=rules).json()["items"][0]["video_id"] == first["video_id"]
    ahead = [first, second | {"published_ms": NOW_MS + HOUR_MS}]  # clocks differ: as if published now
    assert slates.post(ahead, rules=rules).json()["items"][0]["video_id"] == second["video_id"]


@pytest.mark.parametrize(
    ("rules", "loc", "message"),
    [
        ({"max_per_autor": 2}, "rules", "exclude_seen, exclude_hated, fresh_boost, author_decay"),
        ({"max_per_author": 0}, "rules.max_per_author", "found 0"),
        ({"max_per_tag": 1.5}, "rules.max_per_tag", "int"),
        ({"author_decay": 1.5}, "rules.author_decay", "0 to 1, found 1.5"),
        ({"diversity": float("nan")}, "rules.diversity", "0 to 1, found nan"),
        ({"exclude_seen": "yes"}, "rules.exclude_seen", "bool"),
        ({"exclude_hated": "tag"}, "rules.exclude_hated", "tag"),
        ({"fresh_boost": {"hours": 0, "weight": 1}}, "rules.fresh_boost.hours", "found 0"),
        ({"fresh_boost": {"hours": 1, "weight": -1}}, "rules.fresh_boost.weight", "found -1"),
        ({"fresh_boost": {"hours": 1}}, "rules.fresh_boost", "weight"),
        ({"pin": {"v0": 0}}, "rules.pin", "found 0 of 'v0'"),
        ({"pin": {"v0": 1, "v1": 1}}, "rules.pin", "2 videos at position 1"),
        ({"pin": {"v9": 1}}, "rules.pin", "'v9', which is no candidate"),
        ({"pin": {"v0": 7}}, "rules.pin", "a slate of 6"),
        ("max_per_author", "rules", "object"),
    ],
)
def test_a_wrong_rule_is_named_with_what_was_found(
    client: httpx2.Client, user: str, rules: Any, loc: str, message: str
) -> None:
    body = json.dumps({"user_id": user, "candidates": SIX, "rules": rules})
    reply = client.post("/rerank", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 422
    (error,) = reply.json()["errors"]
    assert error["loc"] == loc
    assert message in error["msg"]


def test_a_pin_beyond_the_cut_is_refused(slates: Slates) -> None:
    reply = slates.post(SIX, rules={"pin": {"v0": 3}}, top_k=2)
    assert reply.status_code == 422
    assert "position 3 of a slate of 2; it must be 1 to 2" in reply.json()["detail"]


class AwayStore(MemoryStore):
    async def history(self, user_id: str) -> History | None:
        raise StoreUnavailable("away")


def test_with_the_store_away_an_exclusion_says_that_nothing_is_known(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, AwayStore(), tmp_path) as client:
        slates = Slates(client, "u")
        assert slates.order(SIX, rules={"exclude_seen": True}) == "012345"
        ((_, count, effect),) = slates.applied(SIX, rules={"exclude_seen": True})
        assert count == 0
        assert "the store was unavailable" in effect


names = st.sampled_from("abcde")
rows = st.lists(st.tuples(st.floats(0.001, 1), names, names), min_size=1, max_size=25)


def groups_of(authors: list[str], tags: list[str]) -> Groups:
    return Groups.from_candidates(Candidates(authors, [], authors, tags))


@given(rows, st.floats(0, 1))
def test_marginal_relevance_is_that_of_a_greedy_choice(
    videos: list[tuple[float, str, str]], diversity: float
) -> None:
    scores, authors, tags = (list(column) for column in zip(*videos, strict=True))
    found, lowered = marginal_relevance(np.array(scores), groups_of(authors, tags), diversity)
    by_score = sorted(range(len(videos)), key=lambda i: -scores[i])
    chosen: list[int] = []
    worth: dict[int, tuple[float, bool, int]] = {}
    while len(chosen) < len(videos):
        for i in set(by_score) - set(chosen):
            similar = (1.0 if authors[i] == authors[j] else SAME_TAG * (tags[i] == tags[j]) for j in chosen)
            similarity = max(similar, default=0.0)
            value = (1 - diversity) * scores[i] - similarity * (diversity * max(scores))
            worth[i] = value, similarity == 0, -by_score.index(i)
        chosen.append(max(set(by_score) - set(chosen), key=lambda i: worth[i]))
    assert found.tolist() == [worth[i][0] for i in range(len(videos))]
    assert lowered == sum(not is_first for _, is_first, _ in worth.values())


@given(rows, st.integers(1, 3) | st.none(), st.integers(1, 3) | st.none(), st.integers(0, 3))
def test_limits_hold_and_nothing_is_left_out_without_need(
    videos: list[tuple[float, str, str]], per_author: int | None, per_tag: int | None, pins: int
) -> None:
    _, authors, tags = (list(column) for column in zip(*videos, strict=True))
    pinned, order = list(range(len(videos)))[:pins], list(range(len(videos)))[pins:]
    rules = Rules(max_per_author=per_author, max_per_tag=per_tag)
    remaining, applied = limit(rules, np.array(order, np.intp), groups_of(authors, tags), pinned)
    stays = remaining.tolist()
    by_author = Counter(authors[i] for i in pinned)
    by_tag = Counter(tags[i] for i in pinned)
    for i in order:
        full = by_author[authors[i]] >= (per_author or 99) or by_tag[tags[i]] >= (per_tag or 99)
        assert full != (i in stays)
        by_author[authors[i]] += not full
        by_tag[tags[i]] += not full
    assert sum(did.videos for did in applied) == len(order) - len(stays)
