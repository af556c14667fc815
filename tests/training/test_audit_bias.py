"""What the audit counts, on lists small enough to count by hand, and against what chance would have."""

from __future__ import annotations

import numpy as np
import pytest

from models.arrays import F64, I64
from training.compare.audit._bias import ByGroup, by_group
from training.compare.audit._world import Groups

LOG2 = np.log2


def two_groups(score: list[float], relevant: list[int], group: list[int], k: int = 2) -> ByGroup:
    """One user's rows."""
    return by_group(
        np.zeros(len(score), np.int64),
        np.array(score),
        np.array(relevant) > 0,
        Groups(("a", "b"), np.array(group, np.int64)),
        k,
        resamples=20,
        seed=0,
    )


def test_shares_distance_and_gains_are_those_one_counts_by_hand() -> None:
    # The list: row 0 (a, relevant), row 1 (a), then rows 2 (b, relevant) and 3 (b).
    found = two_groups([4, 3, 2, 1], [1, 0, 1, 0], [0, 0, 1, 1])
    assert found.share.tolist() == [1.0, 0.0]
    assert found.logged.tolist() == [0.5, 0.5]
    assert found.distance == 0.5
    assert found.ndcg.tolist() == [1.0, 0.0]
    # Of a random order each place holds the one relevant row of a group with chance 1/4.
    chance = (1 + 1 / LOG2(3)) / 4
    assert found.chance == pytest.approx([chance, chance])
    assert found.users.tolist() == [1, 1]


def test_a_relevant_row_lower_in_the_list_gains_less() -> None:
    found = two_groups([4, 3, 2, 1], [0, 1, 0, 1], [0, 0, 1, 1])
    assert found.ndcg.tolist() == pytest.approx([1 / LOG2(3), 0.0])


def test_more_relevant_rows_than_places_can_be_had_whole() -> None:
    found = two_groups([4, 3, 2, 1], [1, 1, 1, 0], [0, 0, 0, 1])
    assert found.ndcg[0] == pytest.approx(1.0)
    assert np.isnan(found.ndcg[1])
    assert found.as_json()["ndcg"][1] is None


def test_who_has_no_more_than_k_rows_is_not_judged() -> None:
    found = two_groups([2, 1], [1, 1], [0, 1])
    assert found.users.tolist() == [0, 0]
    assert found.as_json()["ndcg"] == [None, None]
    assert found.gap is None


def many(users: int = 60, rows: int = 12) -> tuple[I64, np.ndarray[tuple[int], np.dtype[np.bool_]], Groups]:
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(users), rows)
    group = random.integers(0, 3, len(user))
    return user, random.random(len(user)) < 0.3, Groups(("a", "b", "c"), group)


def judged(score: F64, k: int = 4) -> ByGroup:
    user, relevant, groups = many()
    return by_group(user, score, relevant, groups, k, resamples=200, seed=0)


def test_random_orders_show_what_was_logged_and_gain_what_chance_has() -> None:
    random = np.random.default_rng(1)
    found = [judged(random.random(len(many()[0]))) for _ in range(300)]
    share = np.mean([of.share for of in found], axis=0)
    np.testing.assert_allclose(share, found[0].logged, atol=0.006)
    ndcg = np.mean([of.ndcg for of in found], axis=0)
    np.testing.assert_allclose(ndcg, found[0].chance, atol=0.006)


def test_a_ranking_that_prefers_a_group_is_found_out() -> None:
    _, relevant, groups = many()
    rows = np.random.default_rng(2).random(len(relevant))
    fair, biased = judged(rows), judged(rows + 1.0 * (groups.of == 2))
    assert biased.distance > fair.distance + 0.3
    assert biased.distance_ci[0] > fair.distance_ci[1]
    assert (biased.ndcg - biased.chance)[2] > 0.1
    assert ((biased.ndcg - biased.chance)[:2] < -0.1).all()
    assert biased.gap is not None
    assert fair.gap is not None
    assert biased.gap > fair.gap + 0.2


def test_a_ranking_that_knows_what_is_relevant_gains_everything_and_has_no_gap() -> None:
    _, relevant, _ = many()
    found = judged(relevant.astype(np.float64), k=11)
    assert found.ndcg.min() > 0.5
    assert found.ndcg.max() <= 1.0


def test_shares_are_shares() -> None:
    found = judged(np.random.default_rng(3).random(len(many()[0])))
    assert found.share.sum() == pytest.approx(1.0)
    assert found.logged.sum() == pytest.approx(1.0)
    assert 0 <= found.distance <= 1
