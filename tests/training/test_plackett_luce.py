"""Propensities of a Plackett-Luce policy, and weights from them, against every possible slate."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from models.arrays import F64, I64
from models.errors import BadInput
from training.off_policy import (
    PlackettLuce,
    cascade_weights,
    position_weights,
    pseudo_inverse_weights,
)

CANDIDATES, POSITIONS = 4, 3
ORDERS: I64 = np.array(list(permutations(range(CANDIDATES), POSITIONS)))
"""`[24, 3]` every slate of three of four candidates."""
LOGGING = [0.9, 0.2, -0.6, 0.0]
TARGET = [-0.3, 0.8, 0.4, 0.0]


def policy(score: list[float], slates: int = len(ORDERS), epsilon: float = 0.1) -> PlackettLuce:
    return PlackettLuce(np.tile(score, (slates, 1)), temperature=0.5, epsilon=epsilon)


def probability(one: PlackettLuce) -> F64:
    """`[24]` of every slate."""
    product: F64 = one.propensities(ORDERS).prod(axis=1)
    return product


def exact_marginals(score: list[float]) -> F64:
    """`[K, M]`, by summing over every slate."""
    out = np.zeros((POSITIONS, CANDIDATES))
    for order, mass in zip(ORDERS, probability(policy(score)), strict=True):
        out[np.arange(POSITIONS), order] += mass
    return out


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_the_probabilities_of_all_slates_sum_to_1(epsilon: float) -> None:
    assert probability(policy(LOGGING, epsilon=epsilon)).sum() == pytest.approx(1.0)


def test_a_slates_probability_is_that_of_the_formula() -> None:
    odds = np.exp(np.array(LOGGING) / 0.5)
    softmax = [
        odds[o] / (odds.sum() - odds[order[:k]].sum()) for order in ORDERS for k, o in enumerate(order)
    ]
    want = 0.9 * np.reshape(softmax, (-1, POSITIONS)).prod(axis=1) + 0.1 / 24
    assert probability(policy(LOGGING)) == pytest.approx(want)


def test_slates_are_drawn_as_often_as_their_propensities_say() -> None:
    drawn = policy(LOGGING, slates=1).sample(POSITIONS, draws=100_000, seed=3)[0]
    key = ORDERS @ [16, 4, 1]
    counts = np.array([(drawn @ [16, 4, 1] == k).sum() for k in key])
    assert stats.chisquare(counts, 100_000 * probability(policy(LOGGING))).pvalue > 0.001


def test_marginals_are_those_of_every_slate() -> None:
    found = policy(LOGGING, slates=1).marginals(POSITIONS, draws=20_000)[0]
    want = exact_marginals(LOGGING)
    assert found[0] == pytest.approx(want[0], abs=1e-12)  # the first position needs no draws
    assert found == pytest.approx(want, abs=5e-3)
    assert found.sum(axis=1) == pytest.approx(np.ones(POSITIONS))


def test_a_low_temperature_shows_the_order_of_the_scores() -> None:
    sharp = PlackettLuce(np.array([LOGGING]), temperature=1e-4)
    assert sharp.propensities(np.array([[0, 1, 3]])) == pytest.approx(np.ones((1, 3)))
    assert sharp.marginals(3)[0].argmax(axis=1).tolist() == [0, 1, 3]


def test_a_slate_with_fewer_candidates_than_positions_ends() -> None:
    short = PlackettLuce(np.array([[0.3, 0.1, -np.inf]]), temperature=0.5, epsilon=0.2)
    found = short.propensities(np.array([[1, 0, -1]]))
    assert found[0, 1:].tolist() == [pytest.approx(1.0), 1.0]
    assert short.marginals(3)[0].sum(axis=1) == pytest.approx([1.0, 1.0, 0.0])
    assert short.marginals(3)[0, :, 2] == pytest.approx(np.zeros(3))


# --- unbiased over all slates: E_logging[w r] = E_target[r]


def test_cascade_weights_are_unbiased_for_rewards_that_depend_on_what_is_above() -> None:
    logging, target = policy(LOGGING), policy(TARGET)
    reward = np.cumsum(np.sin(1.0 + ORDERS), axis=1) ** 2
    weight = cascade_weights(target.propensities(ORDERS), logging.propensities(ORDERS))
    found = probability(logging) @ (weight * reward)
    assert found == pytest.approx(probability(target) @ reward)


def test_position_weights_are_unbiased_for_rewards_of_video_and_position() -> None:
    reward = np.sin(1.0 + ORDERS) / np.arange(1, 4)
    marginals = [exact_marginals(score)[np.arange(POSITIONS), ORDERS] for score in (TARGET, LOGGING)]
    found = probability(policy(LOGGING)) @ (position_weights(*marginals) * reward)
    assert found == pytest.approx(probability(policy(TARGET)) @ reward)


def test_pseudo_inverse_weights_are_unbiased_for_sums_that_are_seen_in_total_alone() -> None:
    logging = policy(LOGGING)
    target = np.tile(exact_marginals(TARGET), (len(ORDERS), 1, 1))
    total = (np.sin(1.0 + ORDERS) / np.arange(1, 4)).sum(axis=1)
    weight = pseudo_inverse_weights(target, logging, ORDERS, draws=50_000)[:, 0]
    want = probability(policy(TARGET)) @ total
    assert probability(logging) @ (weight * total) == pytest.approx(want, rel=0.02)
    itself = pseudo_inverse_weights(
        np.tile(exact_marginals(LOGGING), (24, 1, 1)), logging, ORDERS, draws=50_000
    )
    assert itself == pytest.approx(np.ones((24, 1)), abs=0.1)  # of the draws


def test_the_pseudo_inverse_of_many_candidates_is_refused() -> None:
    large = PlackettLuce(np.zeros((1, 200)), temperature=1.0)
    with pytest.raises(BadInput, match="2000 pairs, at most 300"):
        pseudo_inverse_weights(large.marginals(10, draws=1), large, np.arange(10)[None])
