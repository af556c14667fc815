"""LabelCraft's three objectives as metrics: what the first k places of a user's list hold."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput
from models.metrics import PerUser, ds_at_k, first_k, neg_at_k, nwtg_at_k
from models.metrics._rows import Column

DISCOUNT = 1 / np.log2(np.arange(2, 100))


def column(*values: float) -> Column:
    return np.array(values, np.float64)


def one_user(n: int) -> Column:
    return np.zeros(n, np.int64)


def test_nwtg_by_hand() -> None:
    # Listed 4, 0 | best of all three rows 9, 4.
    found = nwtg_at_k(one_user(3), column(3, 2, 1), column(4, 0, 9), 2)
    assert found.values.tolist() == [pytest.approx((4 + 0) / (9 + 4 / np.log2(3)))]
    assert (found.rows.tolist(), found.users.tolist(), found.degenerate.tolist()) == ([3], [0], [False])


def test_neg_by_hand() -> None:
    # Listed 0, 1 | best 1, 1.
    found = neg_at_k(one_user(4), column(4, 3, 2, 1), column(0, 1, 0, 2), 2)
    assert found.values.tolist() == [pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))]


def test_ds_is_the_sample_deviation_of_raw_durations() -> None:
    found = ds_at_k(one_user(4), column(9, 8, 7, 1), column(10, 20, 60, 1000), 3)
    assert found.values.tolist() == [pytest.approx(np.sqrt((20**2 + 10**2 + 30**2) / 2))]


def test_the_best_list_is_made_of_all_rows_not_of_those_listed() -> None:
    watched = column(1, 2, 100)
    assert nwtg_at_k(one_user(3), column(2, 3, 1), watched, 2).values[0] < 0.1


WATCHED = st.lists(st.integers(0, 60).map(float), min_size=4, max_size=30)


@given(watched=WATCHED, k=st.integers(1, 3))
def test_a_perfect_ranker_has_one(watched: list[float], k: int) -> None:
    truth = column(*watched)
    assert nwtg_at_k(one_user(len(truth)), truth, truth, k).values.tolist() == [pytest.approx(1.0)]
    explicit = (truth > 30).astype(float)
    assert neg_at_k(one_user(len(truth)), explicit, explicit, k).values.tolist() == [pytest.approx(1.0)]


@given(watched=WATCHED, k=st.integers(1, 3), seed=st.integers(0, 999))
def test_no_order_is_better_than_the_best(watched: list[float], k: int, seed: int) -> None:
    score = np.random.default_rng(seed).permutation(len(watched)).astype(float)
    for figure in (nwtg_at_k, neg_at_k):
        assert 0 <= figure(one_user(len(watched)), score, column(*watched), k).values[0] <= 1


def test_each_order_is_worth_what_its_discounts_say() -> None:
    watched = column(5, 3, 2, 1)
    best = watched[:3] @ DISCOUNT[:3]
    for order in permutations(range(4)):
        score = column(*(-order.index(row) for row in range(4)))
        want = watched[list(order[:3])] @ DISCOUNT[:3] / best
        assert nwtg_at_k(one_user(4), score, watched, 3).values[0] == pytest.approx(want)


def test_the_best_list_reversed_is_worse_than_the_best() -> None:
    """The released code multiplies by the discount and scores this 1.195."""
    watched = np.arange(1.0, 12.0)
    score = np.where(watched == 1, -99.0, -watched)  # the ten longest, shortest first
    found = nwtg_at_k(one_user(11), score, watched, 10).values[0]
    assert 0.5 < found < 1.0


def test_a_user_without_explicit_feedback_counts_exactly_one() -> None:
    user = np.array([1] * 3 + [2] * 3)
    found = neg_at_k(user, column(3, 2, 1, 3, 2, 1), column(0, 0, 0, 0, 1, 0), 2)
    assert found.values.tolist() == [1.0, pytest.approx(1 / np.log2(3))]
    assert found.degenerate.tolist() == [True, False]
    positive = found.without_degenerate()
    assert positive.users.tolist() == [2]
    assert positive.mean == positive.weighted_mean == pytest.approx(1 / np.log2(3))


def test_a_user_who_watched_nothing_counts_exactly_one() -> None:
    found = nwtg_at_k(one_user(3), column(1, 2, 3), column(0, 0, 0), 2)
    assert (found.values.tolist(), found.degenerate.tolist()) == ([1.0], [True])


def test_only_users_with_more_than_k_rows_are_evaluated() -> None:
    user = np.repeat([7, 8, 9], [2, 3, 4])
    ones = np.ones(9)
    for figure in (nwtg_at_k, neg_at_k, ds_at_k):
        assert figure(user, ones, ones, 3).users.tolist() == [9]
        assert figure(user, ones, ones, 2).users.tolist() == [8, 9]
        assert figure(user, ones, ones, 4).mean is None


def test_the_weighted_mean_counts_exposures_and_the_plain_one_users() -> None:
    found = PerUser(column(1, 2), np.array([30, 10]), column(1.0, 0.0), np.zeros(2, bool))
    assert (found.mean, found.weighted_mean) == (0.5, 0.75)


def test_equal_scores_keep_the_order_of_the_rows() -> None:
    found = nwtg_at_k(one_user(3), column(1, 1, 1), column(9, 1, 0), 1)
    assert found.values.tolist() == [1.0]


@given(seed=st.integers(0, 999), k=st.integers(2, 4))
def test_users_are_evaluated_alone_and_in_any_order_of_the_rows(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 5, 30)
    score, value = rng.permutation(30).astype(float), rng.exponential(10, 30).round()
    order = rng.permutation(30)
    for figure in (nwtg_at_k, neg_at_k, ds_at_k):
        whole = figure(user, score, value, k)
        shuffled = figure(user[order], score[order], value[order], k)
        np.testing.assert_array_equal(whole.users, shuffled.users)
        np.testing.assert_allclose(whole.values, shuffled.values)
        for u, found in zip(whole.users, whole.values, strict=True):
            mine = user == u
            alone = figure(user[mine], score[mine], value[mine], k)
            np.testing.assert_allclose(alone.values, [found])


@given(seed=st.integers(0, 999))
def test_only_the_order_of_the_score_and_the_proportions_of_the_gain_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    user, score, value = rng.integers(0, 3, 20), rng.normal(size=20), rng.exponential(10, 20)
    for figure in (nwtg_at_k, neg_at_k):
        want = figure(user, score, value, 3).values
        np.testing.assert_allclose(figure(user, np.exp(score) - 5, value * 1000, 3).values, want)


def test_rows_without_users_evaluate_no_user() -> None:
    for figure in (nwtg_at_k, neg_at_k, ds_at_k):
        found = figure(column(), column(), column(), 2)
        assert (len(found.users), found.mean, found.weighted_mean) == (0, None, None)


def test_misuse_of_an_at_k_figure_is_refused() -> None:
    three = column(1, 2, 3)
    for figure, least in ((nwtg_at_k, 1), (neg_at_k, 1), (ds_at_k, 2)):
        with pytest.raises(ValueError, match=f"`k` must be {least} or more"):
            figure(one_user(3), three, three, least - 1)
        with pytest.raises(ValueError, match="with one N"):
            figure(one_user(2), three, three, 2)
        with pytest.raises(BadInput, match="`score` must be finite"):
            figure(one_user(3), column(1, np.nan, 2), three, 2)
    with pytest.raises(BadInput, match="`watch_time_s` must be 0 or more, found -1"):
        nwtg_at_k(one_user(3), three, column(-1, 2, 3), 2)


def test_the_first_k_are_the_rows_that_the_figures_are_of() -> None:
    user = np.array(["b", "a", "b", "a", "a", "b", "c"])
    score, duration = column(1, 5, 3, 5, 9, 2, 7), column(10, 20, 30, 40, 50, 60, 70)
    users, rows = first_k(user, score, 2)
    assert users.tolist() == ["a", "b"]  # c has one row
    assert rows.tolist() == [[4, 1], [2, 5]]  # equal scores keep the order of the rows
    spread = ds_at_k(user, score, duration, 2)
    assert spread.values.tolist() == pytest.approx(duration[rows].std(axis=1, ddof=1).tolist())
