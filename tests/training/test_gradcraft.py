"""GradCraft against its equations on whole gradients, and against what TorchJD says of the same Gramian."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd.aggregation import GramianWeightedAggregator, MeanWeighting, PCGradWeighting, WeightedAggregator

from models.arrays import F64
from models.metrics import auc
from training.balance import Balancer, GradCraft, balanced_backward, craft

# Shape suffixes: T objectives, P parameters, N rows.


def gramian(grad_TP: F64) -> Tensor:
    return torch.from_numpy(grad_TP @ grad_TP.T)


def gradients(seed: int, objectives: int, parameters: int = 40, decades: float = 0.0) -> F64:
    """Random, with much conflict, and lengths that many decades apart."""
    random = np.random.default_rng(seed)
    size = 10 ** random.uniform(-decades / 2, decades / 2, (objectives, 1))
    grad_TP: F64 = random.normal(size=(objectives, parameters)) * size
    return grad_TP


def crafted(grad_TP: F64, tau: float, epsilon: float) -> tuple[F64, F64]:
    """The paper's equations, on vectors: ĝ and g̃, a row an objective."""
    norm = np.linalg.norm(grad_TP, axis=1, keepdims=True)
    scaled = tau * norm.max() / norm * grad_TP + (1 - tau) * grad_TP
    length = np.linalg.norm(scaled, axis=1)
    resolved = scaled.copy()
    for i in range(len(scaled)):
        against = np.flatnonzero(scaled @ scaled[i] < 0)
        if len(against):
            rows = scaled[against]
            wanted = epsilon * length[i] * length[against]
            resolved[i] += rows.T @ np.linalg.solve(rows @ rows.T, wanted - rows @ scaled[i])
    return scaled, resolved


def conditioned(grad_TP: F64) -> bool:
    """Whether the direct solution has digits to compare: no two directions almost the same."""
    unit = grad_TP / np.linalg.norm(grad_TP, axis=1, keepdims=True)
    return bool(np.linalg.cond(unit @ unit.T) < 1e3)


options = st.tuples(
    st.integers(0, 2**31), st.integers(1, 12), st.floats(0, 1), st.sampled_from([0.0, 1e-10, 1e-8, 1e-2])
)


@given(options, st.floats(0, 2))
@settings(max_examples=150, deadline=None)
def test_the_gramian_gives_what_the_whole_gradients_give(
    options: tuple[int, int, float, float], decades: float
) -> None:
    seed, objectives, tau, epsilon = options
    grad_TP = gradients(seed, objectives, decades=decades)
    assume(conditioned(grad_TP))
    _, resolved = crafted(grad_TP, tau, epsilon)
    want = resolved.mean(axis=0)
    got = craft(gramian(grad_TP), tau, epsilon).weights.numpy() @ grad_TP
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-10 * np.abs(resolved).max())


@given(options, st.floats(0, 4))
@settings(max_examples=100, deadline=None)
def test_every_conflict_is_left_at_epsilon_whatever_the_lengths(
    options: tuple[int, int, float, float], decades: float
) -> None:
    seed, objectives, tau, epsilon = options
    grad_TP = gradients(seed, objectives, decades=decades)
    found = craft(gramian(grad_TP), tau, epsilon)
    scaled = found.scale.numpy()[:, None] * grad_TP
    inner = found.mix.numpy() @ scaled @ scaled.T
    length = np.linalg.norm(scaled, axis=1)
    both = np.outer(length, length)
    conflicts = scaled @ scaled.T < 0
    np.testing.assert_allclose((inner / both)[conflicts], epsilon, rtol=1e-6, atol=1e-9)
    assert found.unmet < 1e-9


@given(options)
@settings(max_examples=50, deadline=None)
def test_a_correction_is_made_of_the_gradients_in_conflict_and_is_the_shortest(
    options: tuple[int, int, float, float],
) -> None:
    seed, objectives, tau, epsilon = options
    grad_TP = gradients(seed, objectives)
    found = craft(gramian(grad_TP), tau, epsilon)
    scaled = found.scale.numpy()[:, None] * grad_TP
    conflicts = scaled @ scaled.T < 0
    correction = found.mix.numpy() - np.eye(objectives)
    # In the span of S_i, where the solution that meets the targets is the shortest of all that do.
    assert (correction[~conflicts] == 0).all()


def test_full_tau_makes_every_length_the_longest_and_none_leaves_them() -> None:
    grad_TP = gradients(1, 6, decades=4)
    norm = np.linalg.norm(grad_TP, axis=1)
    np.testing.assert_allclose(craft(gramian(grad_TP), tau=1.0).scale.numpy() * norm, norm.max())
    assert (craft(gramian(grad_TP), tau=0.0).scale == 1).all()


@pytest.mark.parametrize("tau", [0.01, 0.1, 0.5])
def test_no_length_is_left_below_tau_of_the_longest(tau: float) -> None:
    grad_TP = gradients(2, 8, decades=8)
    length = craft(gramian(grad_TP), tau).scale.numpy() * np.linalg.norm(grad_TP, axis=1)
    assert length.max() / length.min() <= 1 / tau


def test_two_objectives_without_tau_and_epsilon_are_pcgrad() -> None:
    for seed in range(20):
        gram_TT = gramian(gradients(seed, 2, parameters=3))
        # TorchJD's weights are the sum's, ours the mean's.
        want = PCGradWeighting()(gram_TT) / 2
        torch.testing.assert_close(craft(gram_TT, tau=0.0, epsilon=0.0).weights, want)


def test_without_conflict_and_tau_it_is_the_mean() -> None:
    gram_TT = gramian(np.abs(gradients(3, 5)))
    torch.testing.assert_close(GradCraft(tau=0.0)(gram_TT), MeanWeighting()(gram_TT))


@given(st.integers(0, 2**31), st.permutations(range(6)))
@settings(max_examples=50, deadline=None)
def test_the_order_of_the_objectives_orders_the_weights_and_nothing_else(seed: int, order: list[int]) -> None:
    gram_TT = gramian(gradients(seed, 6))
    torch.testing.assert_close(
        craft(gram_TT[order][:, order]).weights, craft(gram_TT).weights[order], rtol=1e-9, atol=1e-9
    )


def test_with_full_tau_the_size_of_one_loss_changes_no_direction() -> None:
    grad_TP = gradients(4, 6)
    larger = grad_TP * np.array([1000.0, 1, 1, 1, 1, 1])[:, None]
    one, other = (craft(gramian(g), tau=1.0).weights.numpy() @ g for g in (grad_TP, larger))
    np.testing.assert_allclose(other / np.linalg.norm(other), one / np.linalg.norm(one), atol=1e-12)


def test_a_zero_gradient_is_left_out_and_the_others_are_as_without_it() -> None:
    grad_TP = gradients(5, 4)
    with_zero = np.concatenate([grad_TP, np.zeros((1, 40))])
    got, want = (craft(gramian(g)).weights for g in (with_zero, grad_TP))
    torch.testing.assert_close(got[:4] * 5, want * 4)
    assert got[4] == 0
    assert (craft(torch.zeros(3, 3)).weights == 0).all()


def test_gradients_that_are_the_same_twice_are_no_trouble() -> None:
    grad_TP = gradients(6, 3)
    grad_TP[0] = -grad_TP[1] + 0.1 * grad_TP[2]
    grad_TP = np.concatenate([grad_TP, grad_TP, -grad_TP[:1]])
    found = craft(gramian(grad_TP))
    assert bool(torch.isfinite(found.weights).all())
    assert float(found.weights.abs().max()) < 1e3


def test_targets_that_contradict_each_other_are_missed_least_and_said_so() -> None:
    # In a plane three gradients in conflict with the fourth depend on each other; a large ε shows it.
    angle = np.deg2rad([0.0, 120.0, 180.0, 240.0])
    grad_TP = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = craft(gramian(grad_TP), tau=0.0, epsilon=0.1)
    assert bool(torch.isfinite(found.weights).all())
    assert 0.01 < found.unmet < 1.0
    assert craft(gramian(grad_TP[:2]), tau=0.0, epsilon=0.1).unmet < 1e-12


def test_it_is_a_weighting_of_torchjd() -> None:
    grad_TP = torch.from_numpy(gradients(7, 5))
    update = GramianWeightedAggregator(GradCraft(tau=0.3))(grad_TP)
    torch.testing.assert_close(update, craft(grad_TP @ grad_TP.T, tau=0.3).weights @ grad_TP)
    assert isinstance(GramianWeightedAggregator(GradCraft()), WeightedAggregator)


@pytest.mark.parametrize("wrong", [{"tau": 1.1}, {"tau": -0.1}, {"epsilon": -1e-9}, {"epsilon": 1.0}])
def test_a_hyperparameter_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GradCraft(**wrong)


def test_a_step_balances_what_is_shared_and_sums_behind_it() -> None:
    torch.manual_seed(0)
    shared, heads = nn.Linear(5, 4), [nn.Linear(4, 1) for _ in range(3)]
    unused = nn.Parameter(torch.ones(2))
    x, y = torch.randn(64, 5), torch.randn(64, 3)
    state = torch.tanh(shared(x))
    losses = [(head(state)[:, 0] - y[:, i]).square().mean() for i, head in enumerate(heads)]
    parameters = list(shared.parameters())
    rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
    grad_TP = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
    private = [
        torch.autograd.grad(loss, heads[i].weight, retain_graph=True)[0] for i, loss in enumerate(losses)
    ]

    weights = balanced_backward(losses, state, [*parameters, unused], GradCraft(tau=0.5))

    got = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).double()
    want_T = craft(grad_TP @ grad_TP.T, tau=0.5).weights
    torch.testing.assert_close(weights.double(), want_T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got, want_T @ grad_TP, rtol=1e-4, atol=1e-6)
    for head, grad in zip(heads, private, strict=True):
        torch.testing.assert_close(head.weight.grad, grad)
    assert unused.grad is not None
    assert not unused.grad.any()
    assert not any(hasattr(p, "jac") and p.jac is not None for p in parameters)


def planted(balancer: Balancer, size: float = 100.0, steps: int = 30) -> float:
    """Mean AUC of four objectives that share one narrow layer, the first with a loss `size` times as large.

    The layer has room for two directions and the objectives need one each, two of them nearly opposite: what
    the layer learns is what the update weighs.
    """
    torch.manual_seed(1)
    random = np.random.default_rng(2)
    feature = torch.from_numpy(random.normal(size=(3000, 12))).float()
    truth = torch.from_numpy(random.normal(size=(12, 4))).float()
    truth[:, 1] = 0.4 * truth[:, 1] - 0.6 * truth[:, 0]
    chance = torch.sigmoid(feature @ truth / truth.norm(dim=0) * 4.0 - 1.0)
    label = (torch.rand(chance.shape) < chance).float()
    train, test = slice(0, 2000), slice(2000, None)
    layer, heads = nn.Linear(12, 2, bias=False), nn.Linear(2, 4)
    optimiser = torch.optim.Adam([*layer.parameters(), *heads.parameters()], lr=0.02)
    large = torch.tensor([size, 1.0, 1.0, 1.0])
    for _ in range(steps):
        optimiser.zero_grad()
        state = layer(feature[train])
        each = nn.functional.binary_cross_entropy_with_logits(heads(state), label[train], reduction="none")
        balanced_backward(list(each.mean(0) * large), state, layer.parameters(), balancer)
        optimiser.step()
    with torch.no_grad():
        score = heads(layer(feature[test])).numpy()
    found = [auc(label[test, t].numpy(), score[:, t]) for t in range(4)]
    return float(np.mean([a for a in found if a is not None]))


@pytest.mark.slow
def test_with_gradients_a_hundred_times_apart_it_is_ahead_of_equal_weights_and_pcgrad() -> None:
    ours = planted(GradCraft())
    for other in (MeanWeighting(), PCGradWeighting()):
        assert ours > planted(other) + 0.02, f"{other}: {planted(other):.3f}, GradCraft {ours:.3f}"
    # Where no objective is louder than another there is nothing to win.
    assert abs(planted(GradCraft(), size=1.0) - planted(MeanWeighting(), size=1.0)) < 0.03
