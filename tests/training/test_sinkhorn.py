"""The shared Sinkhorn, against POT and against the limits that are known in closed form."""

from __future__ import annotations

import ot
import pytest
import torch
from torch import Tensor

from training.lda import sinkhorn


def problem(rows: int = 7, columns: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    cost = torch.rand(rows, columns, generator=g, dtype=torch.float64)
    mu = torch.rand(rows, generator=g, dtype=torch.float64) + 0.1
    nu = torch.rand(columns, generator=g, dtype=torch.float64) + 0.1
    return cost, mu / mu.sum(), nu / nu.sum()


def test_balanced_agrees_with_pot() -> None:
    cost, mu, nu = problem()
    ours = sinkhorn(cost, mu, nu, epsilon=0.1, iterations=2000)
    theirs = ot.sinkhorn(mu.numpy(), nu.numpy(), cost.numpy(), 0.1, numItermax=20_000, stopThr=1e-14)
    torch.testing.assert_close(ours, torch.as_tensor(theirs), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("kappa", [0.01, 0.1, 1.0])
def test_semi_relaxed_agrees_with_pots_unbalanced_solver(kappa: float) -> None:
    cost, mu, nu = problem(seed=1)
    ours = sinkhorn(cost, mu, nu, epsilon=0.05, kappa=kappa, iterations=3000)
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        mu.numpy(),
        nu.numpy(),
        cost.numpy(),
        reg=0.05,
        reg_m=(float("inf"), kappa),
        reg_type="kl",
        numItermax=100_000,
        stopThr=1e-14,
    )
    torch.testing.assert_close(ours, torch.as_tensor(theirs), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("iterations", [0, 1, 50])
def test_semi_relaxed_row_sums_are_exact_and_mass_is_one_at_any_moment(iterations: int) -> None:
    cost, mu, nu = problem(seed=2)
    plan = sinkhorn(cost, mu, nu, epsilon=0.05, kappa=0.1, iterations=iterations)
    torch.testing.assert_close(plan.sum(-1), mu, rtol=0, atol=1e-12)
    assert float(plan.sum()) == pytest.approx(1.0, abs=1e-12)


def test_without_a_price_rows_take_their_softmax() -> None:
    cost, mu, nu = problem(seed=3)
    plan = sinkhorn(cost, mu, nu, epsilon=0.05, kappa=1e-12, iterations=200)
    want = mu[:, None] * torch.softmax(-cost / 0.05 + nu.log(), -1)
    torch.testing.assert_close(plan, want, rtol=0, atol=2e-8)


def test_with_a_huge_price_it_is_balanced() -> None:
    cost, mu, nu = problem(seed=4)
    relaxed = sinkhorn(cost, mu, nu, epsilon=0.05, kappa=1e9, iterations=3000)
    torch.testing.assert_close(relaxed.sum(-2), nu, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        relaxed, sinkhorn(cost, mu, nu, epsilon=0.05, iterations=3000), rtol=1e-6, atol=1e-9
    )


def test_a_batch_is_its_problems_one_by_one_with_their_own_temperatures() -> None:
    cost = torch.stack([problem(seed=s)[0] for s in (5, 6)])
    _, mu, nu = problem(seed=7)
    eps = torch.tensor([0.05, 0.3], dtype=torch.float64)
    for kappa in (None, 0.1):
        both = sinkhorn(cost, mu.expand(2, -1), nu, epsilon=eps, kappa=kappa, iterations=50)
        for b in range(2):
            alone = sinkhorn(cost[b], mu, nu, epsilon=float(eps[b]), kappa=kappa, iterations=50)
            torch.testing.assert_close(both[b], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_and_forbidden_pairs_get_nothing_and_change_no_other_pair(dtype: torch.dtype) -> None:
    cost, mu, nu = problem(seed=8)
    cost[0, 1] = torch.inf
    padded_cost = torch.cat([cost, torch.full((2, 4), torch.inf, dtype=torch.float64)]).to(dtype)
    padded_mu = torch.cat([mu, torch.zeros(2, dtype=torch.float64)]).to(dtype)
    for kappa in (None, 0.1):
        plan = sinkhorn(padded_cost, padded_mu, nu.to(dtype), epsilon=0.1, kappa=kappa)
        alone = sinkhorn(cost.to(dtype), mu.to(dtype), nu.to(dtype), epsilon=0.1, kappa=kappa)
        assert plan.dtype == dtype
        assert bool(plan.isfinite().all())
        assert float(plan[7:].abs().max()) == 0.0
        assert float(plan[0, 1]) == 0.0
        torch.testing.assert_close(plan[:7], alone)


def test_tolerance_stops_where_more_rounds_change_nothing() -> None:
    cost, mu, nu = problem(seed=9)
    early = sinkhorn(cost, mu, nu, epsilon=0.1, iterations=10_000, tolerance=1e-10)
    late = sinkhorn(cost, mu, nu, epsilon=0.1, iterations=10_000)
    torch.testing.assert_close(early, late, rtol=1e-7, atol=1e-10)


def test_a_start_at_the_solution_is_already_converged() -> None:
    cost, mu, nu = problem(seed=10)
    plan = sinkhorn(cost, mu, nu, epsilon=0.1, iterations=2000)
    # P = μ ν exp(u + v - C/ε): fix the gauge by the first row.
    v = (plan[0] / nu).log() + cost[0] / 0.1
    again = sinkhorn(cost, mu, nu, epsilon=0.1, iterations=0, potential=v)
    torch.testing.assert_close(again, plan, rtol=1e-7, atol=1e-10)


def test_the_plan_carries_no_gradient() -> None:
    cost, mu, nu = problem()
    assert not sinkhorn(cost.requires_grad_(), mu, nu, epsilon=0.1).requires_grad


@pytest.mark.parametrize(("epsilon", "kappa"), [(0.0, None), (-1.0, 0.1), (0.1, -1.0)])
def test_refuses_temperatures_and_prices_that_mean_nothing(epsilon: float, kappa: float | None) -> None:
    cost, mu, nu = problem()
    with pytest.raises(ValueError, match="must be"):
        sinkhorn(cost, mu, nu, epsilon=epsilon, kappa=kappa)
