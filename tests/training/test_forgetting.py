"""Forgetting by influence, against fits without the forgotten rows on models whose optimum is known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad
from torch.nn.functional import softplus

from training.forgetting import (
    Loss,
    Removal,
    conjugate_gradients,
    gauss_newton_product,
    hessian_product,
    influence_update,
    keep_important,
    node_importance,
)

# Shape suffixes: N rows, D features, P parameters.

ROWS, FEATURES, PENALTY = 4000, 20, 1.0


@pytest.fixture(scope="module", autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def logistic(x_ND: Tensor, sign_N: Tensor, penalty: float = 0.0) -> Loss:
    return lambda w: softplus(-sign_N * (x_ND @ w)).sum() + penalty / 2 * w.square().sum()


def squares(x_ND: Tensor, y_N: Tensor, penalty: float = 0.0) -> Loss:
    return lambda w: (x_ND @ w - y_N).square().sum() / 2 + penalty / 2 * w.square().sum()


def minimum(loss: Loss, start: Tensor) -> Tensor:
    """Newton's method to the end, with the matrix."""
    w = start
    for _ in range(10):
        w = w - torch.linalg.solve(torch.func.hessian(loss)(w), grad(loss)(w))
    return w


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    x_ND = torch.randn(ROWS, FEATURES, dtype=torch.float64) / FEATURES**0.5
    truth = torch.randn(FEATURES, dtype=torch.float64)
    sign_N = torch.where(torch.rand(ROWS) < torch.sigmoid(3 * x_ND @ truth), 1.0, -1.0).double()
    return x_ND, sign_N, 3 * x_ND @ truth + torch.randn(ROWS, dtype=torch.float64)


def error(updated: Tensor, retrained: Tensor, fitted: Tensor) -> float:
    return float((updated - retrained).norm() / (fitted - retrained).norm())


def logistic_removal(share: float) -> tuple[Removal, Tensor, Tensor]:
    """A removal of random rows, the fitted and the refitted parameters."""
    x, sign, _ = drawn()
    gone = torch.arange(ROWS) < share * ROWS
    everything = logistic(x, sign, PENALTY)
    removal = Removal(logistic(x[~gone], sign[~gone], PENALTY), logistic(x[gone], sign[gone]))
    fitted = minimum(everything, torch.zeros(FEATURES, dtype=torch.float64))
    return removal, fitted, minimum(removal.remaining, fitted)


def test_least_squares_are_forgotten_exactly() -> None:
    x, _, y = drawn()
    gone = torch.arange(ROWS) < 400
    removal = Removal(squares(x[~gone], y[~gone], PENALTY), squares(x[gone], y[gone]))
    fitted = minimum(squares(x, y, PENALTY), torch.zeros(FEATURES, dtype=torch.float64))
    retrained = minimum(removal.remaining, fitted)
    update = influence_update(removal, fitted, tolerance=1e-12)
    np.testing.assert_allclose(update.parameters, retrained, rtol=0, atol=1e-8)
    assert update.residual < 1e-8
    of_all_rows = influence_update(
        removal, fitted, curvature=partial(hessian_product, squares(x, y, PENALTY)), tolerance=1e-12
    )
    assert error(of_all_rows.parameters, retrained, fitted) > 0.01


def test_a_logistic_model_forgets_one_percent_nearly_as_a_fit_without_it() -> None:
    removal, fitted, retrained = logistic_removal(0.01)
    update = influence_update(removal, fitted)
    assert error(update.parameters, retrained, fitted) <= 0.05
    moved, wanted = update.parameters - fitted, retrained - fitted
    assert float(torch.cosine_similarity(moved, wanted, dim=0)) >= 0.99
    second = influence_update(removal, fitted, steps=2)
    assert error(second.parameters, retrained, fitted) <= 0.02
    assert second.residual < update.residual
    wrong_sign = fitted - moved
    assert error(wrong_sign, retrained, fitted) > 1.9


def test_removing_nothing_changes_nothing() -> None:
    removal, fitted, _ = logistic_removal(0.0)
    early_stopped = fitted + 0.1
    update = influence_update(removal, early_stopped)
    assert torch.equal(update.parameters, early_stopped)
    assert (update.residual, update.iterations) == (0.0, 0)


def test_two_removals_one_after_the_other_are_nearly_one() -> None:
    x, sign, _ = drawn()
    parts = [logistic(x[i : i + 20], sign[i : i + 20]) for i in (0, 20)]
    fitted = minimum(logistic(x, sign, PENALTY), torch.zeros(FEATURES, dtype=torch.float64))
    without_both = logistic(x[40:], sign[40:], PENALTY)
    first = influence_update(Removal(logistic(x[20:], sign[20:], PENALTY), parts[0]), fitted).parameters
    second = influence_update(Removal(without_both, parts[1]), first).parameters
    both = influence_update(Removal(without_both, lambda w: parts[0](w) + parts[1](w)), fitted).parameters
    assert error(second, both, fitted) < 0.01


def network(x_ND: Tensor) -> Callable[[Tensor], Tensor]:
    """Parameters -> logits of a network with one hidden layer."""

    def outputs(parameters_P: Tensor) -> Tensor:
        hidden, last = parameters_P[:60].reshape(3, 20), parameters_P[60:]
        return torch.tanh(x_ND @ hidden.T) @ last

    return outputs


def test_products_are_derivatives_of_the_gradient() -> None:
    x, sign, _ = drawn()
    outputs = network(x[:200])

    def loss(p: Tensor) -> Tensor:
        return softplus(-sign[:200] * outputs(p)).sum()

    at, vector = torch.randn(63, dtype=torch.float64), torch.randn(63, dtype=torch.float64)
    gradient, step = grad(loss), 1e-6
    difference = (gradient(at + step * vector) - gradient(at - step * vector)) / (2 * step)
    np.testing.assert_allclose(hessian_product(loss, at)(vector), difference, rtol=1e-6, atol=1e-6)


def test_the_gauss_newton_product_has_no_negative_curvature_where_the_hessian_has() -> None:
    x, sign, _ = drawn()
    outputs = network(x[:50])

    def of_outputs(logits: Tensor) -> Tensor:
        return softplus(-sign[:50] * logits).sum()

    at, identity = torch.randn(63, dtype=torch.float64), torch.eye(63, dtype=torch.float64)
    newton = torch.stack([hessian_product(lambda p: of_outputs(outputs(p)), at)(row) for row in identity])
    gauss = torch.stack([gauss_newton_product(outputs, of_outputs, at)(row) for row in identity])
    assert float(torch.linalg.eigvalsh(newton).min()) < -0.1
    assert float(torch.linalg.eigvalsh(gauss).min()) > -1e-9
    jacobian = torch.func.jacrev(outputs)(at)
    weight = torch.sigmoid(outputs(at)) * torch.sigmoid(-outputs(at))
    np.testing.assert_allclose(gauss, jacobian.T @ (weight[:, None] * jacobian), atol=1e-9)


def test_conjugate_gradients_solve_and_report_what_they_could_not() -> None:
    half = torch.randn(30, 30, dtype=torch.float64)
    matrix, target = half @ half.T, torch.randn(30, dtype=torch.float64)
    found = conjugate_gradients(lambda v: matrix @ v, target, damping=0.5, tolerance=1e-10)
    wanted = torch.linalg.solve(matrix + 0.5 * torch.eye(30, dtype=torch.float64), target)
    np.testing.assert_allclose(found.x, wanted, atol=1e-8)
    assert found.residual <= 1e-10
    assert not found.indefinite
    short = conjugate_gradients(lambda v: matrix @ v, target, max_iterations=3)
    assert short.iterations == 3
    assert short.residual > 0.01
    assert conjugate_gradients(lambda v: -v, target).indefinite


def test_with_spillover_the_update_is_nearer_to_a_fit_without_the_rows() -> None:
    """Rows of a group are predicted from the group's mean, so the mean of those that remain changes."""
    x, sign, _ = drawn()
    group = torch.arange(ROWS) // 10
    gone = (torch.arange(ROWS) % 10 == 0) & (group < 100)

    def averaged(rows: Tensor) -> Tensor:
        """Features with the mean of the given rows of the group added."""
        total = torch.zeros(ROWS // 10, FEATURES, dtype=torch.float64).index_add(0, group[rows], x[rows])
        return x + 3 * (total / torch.bincount(group[rows])[:, None])[group]

    complete, without = averaged(torch.arange(ROWS)), averaged(torch.nonzero(~gone)[:, 0])
    fitted = minimum(logistic(complete, sign, PENALTY), torch.zeros(FEATURES, dtype=torch.float64))
    remaining = logistic(without[~gone], sign[~gone], PENALTY)
    forgotten = logistic(complete[gone], sign[gone])
    as_fitted = logistic(complete[~gone], sign[~gone], PENALTY)
    retrained = minimum(remaining, fitted)
    plain = influence_update(Removal(remaining, forgotten), fitted).parameters
    spilled = influence_update(
        Removal(remaining, forgotten, lambda w: as_fitted(w) - remaining(w)), fitted
    ).parameters
    assert error(spilled, retrained, fitted) < 0.1
    assert error(spilled, retrained, fitted) < 0.5 * error(plain, retrained, fitted)


EDGES = torch.tensor([[0, 3], [0, 4], [1, 3], [1, 4], [2, 4], [2, 5]])
"""Users 0 to 2, videos 3 to 5."""


def test_importance_is_the_share_of_a_node_that_goes_and_spreads_along_edges() -> None:
    removed = torch.tensor([True, False, False, False, False, False])
    direct = node_importance(EDGES, removed, 7)
    np.testing.assert_allclose(direct, [1 / 2, 0, 0, 1 / 2, 0, 0, 0])
    spread = node_importance(EDGES, removed, 7, hops=1)
    np.testing.assert_allclose(spread, [3 / 4, 1 / 4, 0, 3 / 4, 1 / 6, 0, 0])


def test_pruning_keeps_the_most_important_nodes_and_all_reached_ones_at_zero() -> None:
    weight = torch.tensor([0.5, 0.0, 0.1, 0.9, 0.2])
    assert keep_important(weight).tolist() == [0, 2, 3, 4]
    assert keep_important(weight, 0.5).tolist() == [0, 3]
    with pytest.raises(ValueError, match="quantile"):
        keep_important(weight, 1.0)
