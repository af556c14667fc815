"""Exploration: the propensities of a drawn slate are those with which such slates are drawn."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from models.errors import BadInput
from models.features import Candidates, Exposures
from service.pipeline.arrangement import Arrangement, arrange
from service.pipeline.exploration import drawn_order, logits, propensities
from service.pipeline.ranking import RankingContext, Slate
from service.slate_rules import Explore, Rules
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, served

LEAST_P = 1e-4
"""Of a test that the drawn slates have the logged propensities. Seeds are fixed: it fails never or always."""


def arranged(
    scores: list[float], authors: list[str], tags: list[str], rules: Rules | None, explore: Explore, seed: str
) -> Arrangement:
    """The arrangement of candidates `v0`, `v1`, ... for a user without history."""
    score = np.array(scores, np.float32)
    size = len(scores)
    slate = Slate(np.argsort(-score, kind="stable"), score, (), np.empty((0, size), np.float32), None, {}, ())
    ids = [f"v{i}" for i in range(size)]
    context = RankingContext(
        Candidates(ids, [None] * size, authors, tags), Exposures.from_events([]), {}, None, NOW_MS
    )
    return arrange(slate, context, rules, explore, seed=seed, length=None, has_history=True)


def agreement(counts: Counter[tuple[int, ...]], probability: dict[tuple[int, ...], float]) -> float:
    """The p value of Pearson's chi-squared test of counts by order."""
    assert sum(probability.values()) == pytest.approx(1)
    total = sum(counts.values())
    orders = list(probability)
    return float(chisquare([counts[o] for o in orders], [total * probability[o] for o in orders]).pvalue)


def test_a_hundred_thousand_drawn_orders_have_their_propensities() -> None:
    logit = logits(np.array([0.1, 0.4, 0.3, 0.2]), 0.2)
    epsilon, every = 0.1, np.arange(4)
    counts = Counter(tuple(drawn_order(logit, every, 4, epsilon, str(i)).tolist()) for i in range(100_000))
    probability = {
        order: float(propensities(logit[list(order)], every + 1, every, epsilon).prod())
        for order in itertools.permutations(range(4))
    }
    assert agreement(counts, probability) > LEAST_P


@pytest.mark.parametrize(
    "rules",
    [
        Rules(max_per_author=1),
        Rules(max_per_author=2, max_per_tag=1),
        Rules(max_per_author=1, pin={"v4": 2}),
        Rules(author_decay=0.5, diversity=0.3, max_per_tag=2),
    ],
)
def test_slates_that_are_drawn_under_rules_have_their_propensities(rules: Rules) -> None:
    scores, authors, tags = [0.5, 0.4, 0.45, 0.3, 0.2], list("aabbb"), list("xyxyz")
    explore = Explore(temperature=0.1, epsilon=0.2)
    counts: Counter[tuple[int, ...]] = Counter()
    probability: dict[tuple[int, ...], float] = {}
    for i in range(3_000):
        drawn = arranged(scores, authors, tags, rules, explore, str(i))
        assert drawn.explored is not None
        order = tuple(drawn.order.tolist())
        counts[order] += 1
        probability[order] = float(drawn.explored.propensity.prod())
    missing = 1 - sum(probability.values())  # orders that are too rare to have come up
    assert 0 <= missing + 1e-9 < 0.01
    probability[()] = max(missing, 1e-9)
    often = {order: p for order, p in probability.items() if p * 3_000 >= 5}
    rare = 1 - sum(often.values())
    pooled = Counter({order: n for order, n in counts.items() if order in often})
    if rare * 3_000 >= 5:
        pooled[(-1,)], often[(-1,)] = 3_000 - pooled.total(), rare
    assert agreement(pooled, {order: p / sum(often.values()) for order, p in often.items()}) > LEAST_P


names = st.sampled_from("abc")
videos = st.lists(st.tuples(st.floats(0.01, 1), names, names), min_size=1, max_size=8)
limits = st.integers(1, 2) | st.none()


@given(videos, limits, limits, st.just(0.0) | st.floats(1e-6, 2), st.floats(0, 1), st.integers(0, 9))
def test_propensities_are_those_of_one_choice_after_another(
    rows: list[tuple[float, str, str]],
    per_author: int | None,
    per_tag: int | None,
    temperature: float,
    epsilon: float,
    seed: int,
) -> None:
    scores, authors, tags = (list(column) for column in zip(*rows, strict=True))
    explore = Explore(temperature=temperature, epsilon=epsilon)
    rules = Rules(max_per_author=per_author, max_per_tag=per_tag)
    drawn = arranged(scores, authors, tags, rules, explore, str(seed))
    assert drawn.explored is not None
    logit = logits(np.array(scores, np.float32).astype(np.float64), temperature)
    by_score, uniform = 1 - epsilon, epsilon
    above: list[int] = []
    for i, found in zip(drawn.order.tolist(), drawn.explored.propensity.tolist(), strict=True):
        possible = [
            j
            for j in set(range(len(rows))) - set(above)
            if sum(authors[a] == authors[j] for a in above) < (per_author or 9)
            and sum(tags[a] == tags[j] for a in above) < (per_tag or 9)
        ]
        before = by_score + uniform
        weights = np.exp(logit[possible] - logit[possible].max())
        by_score *= float(weights[possible.index(i)] / weights.sum())
        uniform /= len(possible)
        assert found == pytest.approx((by_score + uniform) / before, rel=1e-6, abs=1e-12)
        above.append(i)


def test_temperature_zero_sorts_all_but_the_uniform_slates() -> None:
    scores, groups = [0.1, 0.3, 0.2], ["a", "b", "c"]
    explore = Explore(epsilon=0.25)
    orders = Counter(
        tuple(arranged(scores, groups, groups, None, explore, str(i)).order.tolist()) for i in range(2_000)
    )
    assert orders[(1, 2, 0)] / 2_000 == pytest.approx(0.75 + 0.25 / 6, abs=0.03)
    drawn = arranged(scores, groups, groups, None, explore, "0")
    assert drawn.explored is not None
    assert drawn.applied is None


CANDIDATES = [{"video_id": f"v{i}", "duration_s": 5.0 + i} for i in range(30)]
EXPLORE = {"temperature": 0.2, "epsilon": 0.1}


def slate(client: httpx2.Client, **members: Any) -> dict[str, Any]:
    body = {"user_id": "u", "candidates": CANDIDATES, "timestamp_ms": NOW_MS} | members
    reply: dict[str, Any] = client.post("/rerank", json=body).raise_for_status().json()
    return reply


def test_a_retry_has_the_same_slate(client: httpx2.Client) -> None:
    first = slate(client, explore=EXPLORE, request_id="r1")
    assert first["explored"] is True
    assert slate(client, explore=EXPLORE, request_id="r1")["items"] == first["items"]
    assert slate(client, explore=EXPLORE, request_id="r2")["items"] != first["items"]
    assert slate(client, explore=EXPLORE, request_id="r1", user_id="v")["items"] != first["items"]
    assert slate(client, explore=EXPLORE, request_id="r1", top_k=3)["items"] == first["items"][:3]
    unnamed = slate(client, explore=EXPLORE)
    assert slate(client, explore=EXPLORE, request_id=unnamed["request_id"])["items"] == unnamed["items"]


def test_items_keep_their_predictions_and_have_a_propensity(client: httpx2.Client) -> None:
    plain = {item["video_id"]: item for item in slate(client)["items"]}
    for item in slate(client, explore=EXPLORE)["items"]:
        assert 0 < item.pop("propensity") <= 1
        assert item == plain[item["video_id"]] | {"rank": item["rank"]}


def test_without_exploration_a_reply_has_nothing_of_it(client: httpx2.Client) -> None:
    plain = slate(client, request_id="r1")
    for explore in (None, {}, {"temperature": 0, "epsilon": 0}):
        reply = slate(client, request_id="r1", explore=explore)
        assert {**reply, "took_ms": 0} == {**plain, "took_ms": 0}
    assert not {"explored", "applied"} & plain.keys()


@pytest.mark.parametrize(
    ("explore", "loc"),
    [
        ({"temperature": -1}, "explore.temperature"),
        ({"temperature": 1e-9}, "explore.temperature"),
        ({"temperature": float("inf")}, "explore.temperature"),
        ({"epsilon": 1.5}, "explore.epsilon"),
        ({"epsilon": "1"}, "explore.epsilon"),
        ({"share": 0.1}, "explore"),
        (True, "explore"),
    ],
)
def test_a_wrong_exploration_is_named(client: httpx2.Client, explore: Any, loc: str) -> None:
    content = f'{{"user_id": "u", "candidates": [{{"video_id": "v"}}], "explore": {_json(explore)}}}'
    reply = client.post("/rerank", content=content, headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["errors"][0]["loc"]) == (422, loc)


def _json(value: Any) -> str:
    return str(value).replace("'", '"').replace("True", "true").replace("inf", "Infinity")


def test_the_service_may_explore_by_default_and_counts_what_it_costs(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, explore="temperature=0.05, epsilon=0.5") as client:
        drawn = [slate(client, request_id=f"r{i}") for i in range(20)]
        assert all(reply["explored"] for reply in drawn)
        assert "explored" not in slate(client, explore={})
        lines = dict(
            line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if "explor" in line
        )
        (count,) = (float(value) for name, value in lines.items() if "explored_total{" in name)
        (loss,) = (float(value) for name, value in lines.items() if "exploration_loss_sum{" in name)
        assert count == 20
        assert 0 < loss < 20
        preview = client.post("/v1/preview/rerank", json={"user_id": "u", "candidates": CANDIDATES})
        assert "explored" not in preview.raise_for_status().json()


@pytest.mark.parametrize("text", ["0.05", "temperature", "temperature=x", "share=1", "epsilon=2", ""])
def test_a_default_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"REELRANK_EXPLORE must be like temperature=0\.05,epsilon=0\.02"):
        Explore.parse(text, "REELRANK_EXPLORE")
