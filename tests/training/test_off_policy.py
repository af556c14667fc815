"""Off-policy estimators return what is known of cases with a known answer."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest

import training.off_policy
from models.arrays import F64
from tests.training.obp_reference import CAMPAIGNS, POLICIES, SWITCH, predicted_reward, target_policy
from tests.training.open_bandit import FOLDER, needs_open_bandit, read
from training.experiments.validation.open_bandit import open_bandit
from training.off_policy import (
    Overlap,
    RewardModel,
    cascade_weights,
    clipped,
    doubly_robust,
    estimate,
    ips,
    position_weights,
    snips,
    support,
    switch_doubly_robust,
)

REFERENCE = json.loads((Path(__file__).parent / "obp_reference.json").read_text())


def random_log(slates: int = 300, positions: int = 3) -> tuple[F64, F64, F64]:
    """Rewards, and propensities of two policies."""
    random = np.random.default_rng(0)
    shape = (slates, positions)
    return random.normal(1.0, 1.0, shape), random.uniform(0.2, 0.9, shape), random.uniform(0.2, 0.9, shape)


# --- the oracles


def test_a_two_armed_bandit_is_estimated_as_by_hand() -> None:
    """Arm A was shown 3 times of 4 with reward 1, 0, 1, arm B once with reward 2. The target shows B alone,
    or each arm half of the time."""
    reward = np.array([[1.0], [0.0], [1.0], [2.0]])
    logging = np.array([[0.75], [0.75], [0.75], [0.25]])
    only_b = position_weights(np.array([[0.0], [0.0], [0.0], [1.0]]), logging)
    assert ips(reward, only_b).value == pytest.approx(4 * 2 / 4)
    assert snips(reward, only_b).value == pytest.approx(2.0)
    half = position_weights(np.full((4, 1), 0.5), logging)
    assert ips(reward, half).value == pytest.approx((2 / 3 * 2 + 2 * 2) / 4)
    assert snips(reward, half).value == pytest.approx((2 / 3 * 2 + 2 * 2) / (3 * 2 / 3 + 2))
    # A model that predicts 1 for A and 3 for B: 2 on average, corrected by the weighted residuals.
    predicted = np.array([[1.0], [1.0], [1.0], [3.0]])
    expected = np.full((4, 1), 2.0)
    corrected = doubly_robust(reward, half, predicted, expected)
    assert corrected.value == pytest.approx(2 + (2 / 3 * -1 + 2 * -1) / 4)
    switched = switch_doubly_robust(reward, half, predicted, expected, bound=1.0)
    assert switched.value == pytest.approx(2 + (2 / 3 * -1) / 4)
    assert ips(reward, clipped(half, 1.0)).value == pytest.approx((2 / 3 * 2 + 1 * 2) / 4)


@pytest.mark.parametrize("weights", [position_weights, cascade_weights])
def test_the_logging_policy_itself_has_the_mean_of_the_log(weights: object) -> None:
    assert callable(weights)
    reward, logging, _ = random_log()
    mean = reward.sum(axis=1).mean()
    for method in (ips, snips):
        assert method(reward, weights(logging, logging)).value == pytest.approx(mean, rel=1e-12)


def test_a_model_of_zeros_leaves_inverse_propensity_scoring() -> None:
    reward, logging, target = random_log()
    weight, zeros = cascade_weights(target, logging), np.zeros_like(reward)
    assert doubly_robust(reward, weight, zeros, zeros).value == pytest.approx(ips(reward, weight).value)


def test_an_infinite_bound_never_switches_and_0_leaves_the_model_alone() -> None:
    reward, logging, target = random_log()
    weight, model = position_weights(target, logging), np.full_like(reward, 0.7)
    never = switch_doubly_robust(reward, weight, model, model, np.inf)
    assert never.value == doubly_robust(reward, weight, model, model).value
    assert switch_doubly_robust(reward, weight, model, model, 0.0).value == pytest.approx(3 * 0.7)


def test_a_perfect_model_leaves_the_variance_of_the_noise() -> None:
    """Of rewards q + noise only w · noise is left, whatever the rewards are."""
    _, logging, target = random_log(20_000)
    random = np.random.default_rng(1)
    weight = position_weights(target, logging)
    model, noise = random.normal(50.0, 30.0, weight.shape), random.normal(0.0, 0.1, weight.shape)
    terms = doubly_robust(model + noise, weight, model, np.full_like(model, 50.0))
    residual = terms.numerator - 50.0
    assert residual == pytest.approx(weight * noise, abs=1e-9)
    assert residual.var() == pytest.approx((weight**2).mean() * 0.01, rel=0.05)


@needs_open_bandit
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_values_on_real_data_are_those_of_obp(policy: str, campaign: str) -> None:
    log = read(policy, campaign)
    target_IK = target_policy(int(log.item.max()) + 1)
    predicted_IK = predicted_reward(len(target_IK))
    weight = position_weights(target_IK[log.item, log.position], log.propensity)[:, None]
    reward, predicted = log.click[:, None], predicted_IK[log.item, log.position][:, None]
    expected = (target_IK * predicted_IK).sum(axis=0)[log.position][:, None]
    found = {
        "ips": ips(reward, weight).value,
        "snips": snips(reward, weight).value,
        "dr": doubly_robust(reward, weight, predicted, expected).value,
        "switch_dr": switch_doubly_robust(reward, weight, predicted, expected, SWITCH).value,
    }
    assert found == pytest.approx(REFERENCE[f"{policy}_{campaign}"], rel=1e-9)


# --- intervals


def test_intervals_are_over_users_not_over_their_slates() -> None:
    """Ten times the same slates of each user say nothing new."""
    reward, logging, target = random_log()
    weight, user = position_weights(target, logging), np.arange(len(reward))
    once = estimate(snips(reward, weight), user)
    again = estimate(snips(np.tile(reward, (10, 1)), np.tile(weight, (10, 1))), np.tile(user, 10))
    assert again.value == pytest.approx(once.value)
    assert again.interval == pytest.approx(once.interval)


def test_the_interval_of_a_plain_mean_is_that_of_its_standard_error() -> None:
    reward, logging, _ = random_log(2000)
    terms = ips(reward, position_weights(logging, logging))
    low, high = estimate(terms, np.arange(len(reward)), resamples=4000).interval
    error = reward.sum(axis=1).std() / np.sqrt(len(reward))
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)


# --- whether the log can answer


def test_the_effective_sample_size_is_that_of_the_worst_position() -> None:
    weight = np.ones((200, 2))
    weight[:, 1] = [100.0] + [0.0] * 199
    overlap = Overlap.of_weights(weight, support=1.0)
    assert overlap.effective_sample_size == pytest.approx(1.0)
    assert overlap.max_weight == 100.0
    assert overlap.refusal is not None
    assert "effective sample size is 1," in overlap.refusal


def test_without_support_the_log_refuses_to_answer() -> None:
    logging = np.tile([0.5, 0.5, 0.0], (500, 1, 1))
    target = np.tile([0.1, 0.1, 0.8], (500, 1, 1))
    share = support(target, logging)
    assert share == pytest.approx(0.2)
    refusal = Overlap.of_weights(np.full((500, 1), 0.2), share).refusal
    assert refusal is not None
    assert "only 20%" in refusal


def test_a_log_with_overlap_answers() -> None:
    _, logging, target = random_log()
    assert Overlap.of_weights(position_weights(target, logging), support=1.0).refusal is None


def test_propensities_under_one_slate_of_the_log_are_no_support() -> None:
    logging = np.tile([1 - 1e-4, 1e-4], (100, 1, 1))
    target = np.tile([0.0, 1.0], (100, 1, 1))
    assert support(target, logging) == 0.0
    assert support(target, logging, floor=1e-5) == 1.0


# --- the model of rewards


def test_predictions_for_a_user_do_not_see_that_user() -> None:
    random = np.random.default_rng(0)
    features, reward = random.normal(size=(60, 2, 3)), random.normal(size=(60, 2))
    user = np.repeat(np.arange(20), 3)
    changed = np.where((user == 7)[:, None], 100.0, reward)
    before, after = (RewardModel.fit(features, y, user).predict(features) for y in (reward, changed))
    assert before[user == 7] == pytest.approx(after[user == 7])
    assert abs(before - after).max() > 0.1


def test_a_linear_reward_is_found_for_every_candidate_and_position() -> None:
    random = np.random.default_rng(0)
    shown, candidates = random.normal(size=(400, 2, 3)), random.normal(size=(400, 5, 3))
    slope, intercept = np.array([[1.0, -2.0, 0.5], [0.3, 0.0, -0.1]]), np.array([4.0, 2.0])
    reward = (shown * slope).sum(axis=-1) + intercept
    model = RewardModel.fit(shown, reward, np.arange(400), penalty=1e-9)
    want = np.einsum("nmf,kf->nkm", candidates, slope) + intercept[:, None]
    assert model.predict(candidates) == pytest.approx(want, abs=1e-6)


# --- the real pair of policies


@needs_open_bandit
def test_each_policys_clicks_are_covered_by_the_estimates_from_the_others_log() -> None:
    rows = open_bandit(FOLDER, resamples=1000)
    assert len(rows) == 6
    for row in rows:
        assert {"IPS", "SNIPS"} <= set(row["covered_by"]), row
    refused = [row["campaign"] for row in rows if row["overlap"]["plain"]["refusal"] is not None]
    assert refused == ["women"]  # one weight is 21,739


# --- the door


def test_the_example_of_the_package_runs() -> None:
    assert doctest.testmod(training.off_policy).failed == 0
