"""Exposure and gain of groups, on lists small enough to count by hand, and against what chance would have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.arrays import F64
from training.evaluation.fairness import Bootstrap, EvaluatedRows, Groups, exposure_by_group

USERS, ROWS = 60, 12


def two_groups(score: list[float], relevant: list[int], group: list[int]) -> dict[str, Any]:
    """One user's rows, lists of two."""
    nothing = np.zeros(len(score), np.float32)
    rows = EvaluatedRows(np.zeros(len(score), np.int64), nothing, nothing, np.array(relevant) > 0)
    groups = Groups(("a", "b"), np.array(group, np.int64))
    return exposure_by_group(rows, np.array(score), groups, 2, Bootstrap(20, 0))


def many() -> tuple[EvaluatedRows, Groups]:
    random = np.random.default_rng(0)
    size = USERS * ROWS
    group, nothing = random.integers(0, 3, size), np.zeros(size, np.float32)
    rows = EvaluatedRows(np.repeat(np.arange(USERS), ROWS), nothing, nothing, random.random(size) < 0.3)
    return rows, Groups(("a", "b", "c"), group)


def exposure(score: F64, k: int = 4) -> dict[str, Any]:
    return exposure_by_group(many()[0], score, many()[1], k, Bootstrap(200, 0))


def lift(row: dict[str, Any]) -> F64:
    difference: F64 = np.array(row["ndcg"]) - np.array(row["chance"])
    return difference


def test_shares_distance_and_gains_are_those_one_counts_by_hand() -> None:
    # The list: row 0 (a, relevant), row 1 (a), then rows 2 (b, relevant) and 3 (b).
    counted = two_groups([4, 3, 2, 1], [1, 0, 1, 0], [0, 0, 1, 1])
    assert counted["share"] == [1.0, 0.0]
    assert counted["logged"] == [0.5, 0.5]
    assert counted["distance"] == 0.5
    assert counted["ndcg"] == [1.0, 0.0]
    # In a random order each position holds the one relevant row of a group with chance 1/4.
    assert counted["chance"] == pytest.approx([(1 + 1 / np.log2(3)) / 4] * 2)
    assert counted["users"] == [1, 1]


def test_a_relevant_row_lower_in_the_list_gains_less() -> None:
    counted = two_groups([4, 3, 2, 1], [0, 1, 0, 1], [0, 0, 1, 1])
    assert counted["ndcg"] == pytest.approx([1 / np.log2(3), 0.0])


def test_more_relevant_rows_than_positions_can_all_be_gained() -> None:
    assert two_groups([4, 3, 2, 1], [1, 1, 1, 0], [0, 0, 0, 1])["ndcg"] == [pytest.approx(1.0), None]


def test_users_without_more_than_k_rows_take_no_part() -> None:
    counted = two_groups([2, 1], [1, 1], [0, 1])
    assert counted["users"] == [0, 0]
    assert counted["ndcg"] == [None, None]
    assert counted["gap"] is None


def test_random_orders_show_what_was_logged_and_gain_what_chance_has() -> None:
    random = np.random.default_rng(1)
    orders = [exposure(random.random(USERS * ROWS)) for _ in range(300)]
    for shown, expected in (("share", "logged"), ("ndcg", "chance")):
        mean = np.mean([order[shown] for order in orders], axis=0)
        np.testing.assert_allclose(mean, orders[0][expected], atol=0.006)
    assert sum(orders[0]["share"]) == pytest.approx(1.0)
    assert sum(orders[0]["logged"]) == pytest.approx(1.0)
    assert all(0 <= order["distance"] <= 1 for order in orders)


def test_a_ranking_that_prefers_a_group_is_measured_as_biased() -> None:
    score = np.random.default_rng(2).random(USERS * ROWS)
    fair, biased = exposure(score), exposure(score + 1.0 * (many()[1].index == 2))
    assert biased["distance"] > fair["distance"] + 0.3
    assert biased["distance_ci"][0] > fair["distance_ci"][1]
    assert lift(biased)[2] > 0.1
    assert (lift(biased)[:2] < -0.1).all()
    assert biased["gap"] > fair["gap"] + 0.2


def test_a_ranking_by_relevance_gains_everything_and_has_no_gap() -> None:
    counted = exposure(many()[0].relevant.astype(np.float64), k=11)
    assert min(counted["ndcg"]) > 0.5
    assert max(counted["ndcg"]) <= 1.0
