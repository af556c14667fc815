"""The paired bootstrap says what is known of cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from training.evaluation.bootstrap import RESAMPLES, Resamples, paired_bootstrap


def ones(users: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.ones(users)


def test_the_interval_is_that_of_the_reference_implementation() -> None:
    difference = np.random.default_rng(0).normal(0.05, 0.3, 150)
    (found,) = paired_bootstrap(difference[None], ones(150))
    assert found is not None
    reference = stats.bootstrap(
        (difference,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.difference == pytest.approx(difference.mean())
    assert found.ci == pytest.approx((reference.low, reference.high), abs=4e-3)
    t_test = stats.ttest_1samp(difference, 0.0).pvalue
    assert found.p_value == pytest.approx(t_test, abs=0.03)


def test_weights_are_those_of_the_mean_and_a_weight_of_0_leaves_a_user_out() -> None:
    difference = np.array([[1.0, 3.0, -50.0], [-1.0, -3.0, 50.0]])
    found = paired_bootstrap(difference, np.array([3.0, 1.0, 0.0]))
    assert [f.difference for f in found if f] == [pytest.approx(1.5), pytest.approx(-1.5)]
    for one in found:
        assert one is not None
        assert one.p_value == pytest.approx(2 / (RESAMPLES + 1), rel=0.1)  # never turns the sign round
        assert all(1 <= abs(end) <= 3 for end in one.ci)


def test_no_difference_is_no_evidence() -> None:
    (found,) = paired_bootstrap(np.zeros((1, 40)), ones(40))
    assert found is not None
    assert (found.difference, found.p_value, found.ci) == (0.0, 1.0, (0.0, 0.0))


def test_chance_alone_is_rarely_significant() -> None:
    null = np.random.default_rng(3).normal(size=(400, 60))
    found = paired_bootstrap(null, ones(60))
    share = np.mean([f is not None and f.p_value < 0.05 for f in found])
    assert 0.02 < share < 0.09


def test_without_users_that_count_there_is_no_answer() -> None:
    assert paired_bootstrap(np.ones((2, 3)), np.zeros(3)) == [None, None]


def test_every_row_sees_the_same_draws_however_many_there_are() -> None:
    difference = np.random.default_rng(4).normal(size=(3, 30))
    (alone,) = paired_bootstrap(difference[2:], ones(30))
    among = paired_bootstrap(difference, ones(30))[2]
    assert alone is not None
    assert among is not None
    assert among.ci == pytest.approx(alone.ci)
    assert among.p_value == alone.p_value
    assert paired_bootstrap(difference, ones(30), seed=1)[2] != among


# --- users and fits


def test_a_difference_of_roots_of_weighted_means_is_that_of_the_figures() -> None:
    random = np.random.default_rng(5)
    user, weight = np.arange(60) % 40, random.integers(1, 9, 60).astype(np.float64)  # some in two windows
    first, second = random.gamma(2.0, 9.0, (3, 60)), random.gamma(2.0, 8.0, (3, 60))
    resamples = Resamples.draw(user, 400, seed=0)
    found = resamples.difference(first, second, weight, np.sqrt)
    assert found is not None
    means = [np.average(values, axis=1, weights=weight) for values in (first, second)]  # of each fit
    assert found.difference == pytest.approx(np.sqrt(means[0]).mean() - np.sqrt(means[1]).mean())
    assert found.ci[0] < found.difference < found.ci[1]
    plain = resamples.difference(first, second, weight)
    assert plain is not None
    assert plain.difference == pytest.approx(means[0].mean() - means[1].mean())


def test_users_without_a_value_are_left_out_of_both() -> None:
    first, second = np.array([[1.0, np.nan, 4.0]]), np.array([[0.0, 7.0, 1.0]])
    found = Resamples.draw(np.arange(3), 200, seed=0).difference(first, second, np.array([1.0, 9.0, 3.0]))
    assert found is not None
    assert found.difference == pytest.approx((1 * 1 + 3 * 3) / 4)
    assert Resamples.draw(np.arange(3), 9, seed=0).difference(first, first, np.zeros(3)) is None


def test_a_method_without_seeds_meets_every_fit_of_the_other() -> None:
    fits = np.random.default_rng(6).normal(size=(4, 50))
    resamples = Resamples.draw(np.arange(50), 300, seed=0)
    assert resamples.difference(fits, np.ones((1, 50))) == resamples.difference(fits, np.ones((4, 50)))
