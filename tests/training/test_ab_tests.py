"""Experiments find what was planted, and nothing where nothing was."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy import stats

import training.ab_tests
from models.arrays import F64
from training.ab_tests import (
    SAMPLE_RATIO_ALPHA,
    ArmMean,
    Guardrail,
    always_valid_half_width,
    arm_difference,
    arm_mean,
    cuped,
    days_needed,
    detectable_effect,
    linearised,
    pre_period,
    sample_ratio_p,
    users_per_arm,
)

DAYS = 14


def watch_times(users: int, days: int, seed: int = 0) -> F64:
    """`[users, days]` seconds: users differ from each other for good, and days within users."""
    random = np.random.default_rng(seed)
    habit = random.lognormal(4.0, 0.9, users)[:, None]
    out: F64 = habit * random.gamma(0.5, 2.0, (users, days))
    return out


# --- one look


def test_a_mean_has_the_interval_and_the_p_value_of_welch() -> None:
    random = np.random.default_rng(0)
    control, treatment = random.normal(10, 3, 900), random.normal(10.3, 4, 1100)
    found = arm_difference(arm_mean(control), arm_mean(treatment))
    welch = stats.ttest_ind(treatment, control, equal_var=False)
    assert found.difference == pytest.approx(treatment.mean() - control.mean())
    assert found.p_value == pytest.approx(welch.pvalue, abs=2e-3)
    assert found.interval == pytest.approx(tuple(welch.confidence_interval()), rel=0.01)


def test_a_ratio_varies_as_the_delta_method_says() -> None:
    """Skips per exposure: users with many exposures weigh more, and their exposures are alike."""
    random = np.random.default_rng(0)
    exposures = random.poisson(20, (2000, 400)) + 1.0
    skips = random.binomial(exposures.astype(int), random.beta(2, 5, exposures.shape)).astype(float)
    found = [arm_mean(a, b) for a, b in zip(skips, exposures, strict=True)]
    spread = np.std([f.value for f in found])
    assert np.mean([f.standard_error for f in found]) == pytest.approx(spread, rel=0.05)
    assert found[0].value == pytest.approx(skips[0].sum() / exposures[0].sum())


def test_a_relative_difference_varies_as_the_delta_method_says() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(1.0, 1.5, (2000, 2, 500)) * [[1.0], [1.2]]
    found = [arm_difference(arm_mean(a), arm_mean(b)) for a, b in draws]
    widths = [f.relative_interval[1] - f.relative_interval[0] for f in found if f.relative_interval]
    spread = np.std([f.relative for f in found if f.relative is not None])
    assert np.mean(widths) / (2 * 1.96) == pytest.approx(spread, rel=0.05)
    covered = [f.relative_interval[0] <= 0.2 <= f.relative_interval[1] for f in found if f.relative_interval]
    assert 0.935 <= np.mean(covered) <= 0.965


def test_a_control_without_any_has_no_relative_difference() -> None:
    found = arm_difference(arm_mean(np.zeros(100)), arm_mean(np.eye(100)[0]))
    assert found.relative is None
    assert found.relative_interval is None
    nothing = arm_difference(arm_mean(np.zeros(100)), arm_mean(np.zeros(100)))
    assert nothing.p_value == 1.0
    assert arm_mean(np.zeros(9), np.zeros(9)).value == 0.0


# --- A/A: 1,000 replays with random arms, read every day


@pytest.fixture(scope="module")
def replays() -> dict[str, float]:
    """Share of replays of two equal arms in which a difference is found."""
    total = watch_times(2000, DAYS).cumsum(axis=1)
    before = pre_period(watch_times(2000, 7).sum(axis=1), np.zeros(2000))
    random = np.random.default_rng(1)
    found = {"fixed horizon": 0, "with CUPED": 0, "any look": 0, "any look, always valid": 0}
    for _ in range(1000):
        arm = random.permutation(2000) < 1000
        looks = [
            arm_difference(arm_mean(day[arm]), arm_mean(day[~arm]), smallest_effect=0.05) for day in total.T
        ]
        parts = {"A": arm, "B": ~arm}
        adjusted = cuped(
            {name: total[part, -1] for name, part in parts.items()},
            {name: before[part] for name, part in parts.items()},
        ).arms
        found["fixed horizon"] += looks[-1].p_value < 0.05
        found["with CUPED"] += arm_difference(adjusted["A"], adjusted["B"]).p_value < 0.05
        found["any look"] += min(look.p_value for look in looks) < 0.05
        found["any look, always valid"] += any(
            not look.always_valid_interval[0] <= 0 <= look.always_valid_interval[1] for look in looks
        )
    return {name: count / 1000 for name, count in found.items()}


@pytest.mark.parametrize("test", ["fixed horizon", "with CUPED"])
def test_equal_arms_differ_one_time_in_twenty_at_the_end(replays: dict[str, float], test: str) -> None:
    assert replays[test] == pytest.approx(0.05, abs=0.014)


def test_equal_arms_differ_at_most_one_time_in_twenty_at_any_look(replays: dict[str, float]) -> None:
    assert replays["any look, always valid"] <= 0.05
    assert replays["any look"] > 0.08  # which is why


def test_the_confidence_sequence_is_valid_on_independent_days() -> None:
    """The hardest case: each look is as much news as the last, and there are a hundred."""
    random = np.random.default_rng(0)
    days = np.arange(1, 101)
    mean = random.normal(size=(4000, 100)).cumsum(axis=1) / days
    half_width = np.array([always_valid_half_width(1 / np.sqrt(day), 0.3) for day in days])
    assert 0.01 <= (np.abs(mean) > half_width).any(axis=1).mean() <= 0.05


def test_always_valid_intervals_hold_and_are_wider() -> None:
    found = arm_difference(ArmMean(10.0, 5.0, 5000), ArmMean(10.4, 5.0, 5000))
    assert found.always_valid_interval[0] < found.interval[0] < found.interval[1]
    assert found.relative_interval is not None
    assert found.always_valid_relative_interval is not None
    assert found.always_valid_relative_interval[1] > found.relative_interval[1]
    assert always_valid_half_width(1.0, 0.0) == np.inf


# --- power


@pytest.mark.parametrize("effect", [0.01, -0.01])
def test_a_planted_percent_is_found_four_times_in_five_at_the_size_that_is_named(effect: float) -> None:
    random = np.random.default_rng(0)
    users = users_per_arm(effect, coefficient_of_variation=0.3)
    found = 0
    for _ in range(400):
        control, treatment = random.gamma(1 / 0.09, 0.09, (2, users))
        found += arm_difference(arm_mean(control), arm_mean(treatment * (1 + effect))).p_value < 0.05
    assert 0.75 <= found / 400 <= 0.86
    one = ArmMean(1.0, 0.3, users)
    assert detectable_effect(one, one) == pytest.approx(0.01, rel=1e-3)


def test_a_gain_as_small_as_published_ones_needs_hundreds_of_millions_of_users() -> None:
    assert users_per_arm(0.00039, coefficient_of_variation=1.73) == pytest.approx(3e8, rel=0.05)


def test_days_are_counted_in_new_users() -> None:
    assert days_needed(1000, users=400, days=4, new_users_a_day=100) == 10.0
    assert days_needed(1000, users=1000, days=4, new_users_a_day=0) == 4
    assert days_needed(1000, users=400, days=4, new_users_a_day=0) is None


# --- CUPED


def test_cuped_removes_the_squared_correlation_of_the_variance() -> None:
    before, during = (watch_times(4000, 21)[:, part].sum(axis=1) for part in (slice(7), slice(7, 21)))
    arm = np.arange(4000) % 2 == 0
    x = pre_period(before, np.zeros(4000))
    found = cuped({"A": during[arm], "B": during[~arm]}, {"A": x[arm], "B": x[~arm]})
    within = [(v[arm] - v[arm].mean(), v[~arm] - v[~arm].mean()) for v in (before, during)]
    rho = np.corrcoef(np.array([np.concatenate(parts) for parts in within]))[0, 1]
    assert found.variance_removed == pytest.approx(rho**2, rel=1e-9)
    plain = {name: arm_mean(during[part]) for name, part in {"A": arm, "B": ~arm}.items()}
    ratio = found.arms["A"].deviation ** 2 / plain["A"].deviation ** 2
    assert ratio == pytest.approx(1 - rho**2, rel=0.1)
    assert found.variance_removed > 0.4


def test_cuped_leaves_the_expected_difference() -> None:
    random = np.random.default_rng(0)
    found = []
    for seed in range(200):
        seconds = watch_times(400, 14, seed)
        arm = random.permutation(400) < 200
        during = seconds[:, 7:].sum(axis=1) + 50.0 * arm
        x = pre_period(seconds[:, :7].sum(axis=1), np.zeros(400))
        arms = cuped({"A": during[~arm], "B": during[arm]}, {"A": x[~arm], "B": x[arm]}).arms
        found.append(arm_difference(arms["A"], arms["B"]).difference)
    assert np.mean(found) == pytest.approx(50.0, abs=3 * np.std(found) / np.sqrt(200))


def test_new_users_count_without_a_past() -> None:
    """Their past is unknown, not 0: whatever stands there changes nothing."""
    seconds = watch_times(600, 14)
    is_new = (np.arange(600) % 3 == 0).astype(float)
    before, during = seconds[:, :7].sum(axis=1), seconds[:, 7:].sum(axis=1)
    results = []
    for past in (before, np.where(is_new > 0, 1e6, before)):
        x = pre_period(past, is_new)
        results.append(cuped({"A": during[:300], "B": during[300:]}, {"A": x[:300], "B": x[300:]}))
    assert results[0] == results[1]
    assert 0 < results[0].variance_removed < 1


def test_cuped_takes_ratios_too() -> None:
    random = np.random.default_rng(0)
    exposures = random.poisson(20, (2, 1000)) + 1.0
    taste = random.beta(2, 5, 1000)
    before, during = (random.binomial(e.astype(int), taste) / 1.0 for e in exposures)
    linear = [linearised(a, b)[1] for a, b in zip((before, during), exposures, strict=True)]
    x = pre_period(linear[0], np.zeros(1000))
    found = cuped({"A": linear[1][:500], "B": linear[1][500:]}, {"A": x[:500], "B": x[500:]})
    assert found.variance_removed > 0.3


# --- sample ratio


def test_51_to_49_of_100_000_users_is_flagged_and_half_of_them_is_not() -> None:
    assert sample_ratio_p([51_000, 49_000], [1, 1]) < SAMPLE_RATIO_ALPHA
    assert sample_ratio_p([50_100, 49_900], [0.5, 0.5]) > 0.5


def test_unequal_shares_and_more_arms_are_those_of_the_reference() -> None:
    users, shares = [880, 110, 90], [8, 1, 1]
    expected = np.array(shares) / 10 * sum(users)
    assert sample_ratio_p(users, shares) == pytest.approx(stats.chisquare(users, expected).pvalue)


# --- guardrails


@pytest.mark.parametrize(
    ("change", "users", "verdict"),
    [(0.0, 1_000_000, "holds"), (-0.05, 1_000_000, "violated"), (-0.02, 1_000_000, "undecided"),
     (-0.05, 100, "undecided")],
)  # fmt: skip
def test_a_guardrail_waits_until_harm_is_ruled_out_or_shown(change: float, users: int, verdict: str) -> None:
    control, treatment = ArmMean(1.0, 2.0, users), ArmMean(1.0 + change, 2.0, users)
    higher = Guardrail("watch_time_s", tolerance=0.02)
    assert higher.verdict(arm_difference(control, treatment)) == verdict
    worse = ArmMean(1.0 - change, 2.0, users)
    lower = Guardrail("skip_rate", tolerance=0.02, higher_is_better=False)
    assert lower.verdict(arm_difference(control, worse)) == verdict


def test_the_example_of_the_package_runs() -> None:
    assert doctest.testmod(training.ab_tests).failed == 0
