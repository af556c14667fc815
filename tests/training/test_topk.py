"""SOFT top-k: the oracles of a choice that is exact in sum, ordered, and differentiable."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.labelcraft import relative_temperature, soft_top_k
from training.labelcraft._soft_top_k import _SoftTopK
from training.lda import sinkhorn

TEMPERATURES = [0.3, 0.025, 0.005]


def scores(users: int = 4, candidates: int = 12, seed: int = 0) -> Tensor:
    return torch.rand(users, candidates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everywhere(s: Tensor) -> Tensor:
    return torch.ones_like(s, dtype=torch.bool)


def ragged() -> tuple[Tensor, Tensor]:
    s = scores()
    mask = everywhere(s)
    mask[1, 6:] = False
    mask[2, :3] = False
    return s, mask


@pytest.mark.parametrize("temperature", [*TEMPERATURES, None])
def test_shares_lie_in_zero_one_and_sum_to_k_whatever_the_padding(temperature: float | None) -> None:
    s, mask = ragged()
    alpha = soft_top_k(s, mask, 3, temperature=temperature)
    assert bool(((alpha >= 0) & (alpha <= 1 + 1e-12)).all())
    assert float(alpha[~mask].abs().max()) == 0.0
    torch.testing.assert_close(alpha.sum(-1), torch.full((4,), 3.0, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.3, 0.1, 0.025])  # colder, plain Sinkhorn needs 10⁵ rounds
def test_is_the_transport_plan_of_the_definition(temperature: float) -> None:
    """Cost (s - anchor)² over its maximum, masses 1/n and (n-k)/n, ε from T: plain Sinkhorn, many rounds."""
    s, k, n = scores(), 3, 12
    anchors = torch.arange(k, -1, -1, dtype=torch.float64)
    cost = (s[..., None] - anchors) ** 2
    top = cost.amax((-1, -2))
    nu = torch.tensor([1 / n] * k + [(n - k) / n], dtype=torch.float64)
    plan = sinkhorn(
        cost / top[:, None, None],
        torch.full_like(s, 1 / n),
        nu.expand(4, -1),
        epsilon=2 * temperature / top,
        iterations=20_000,
        tolerance=1e-13,
    )
    torch.testing.assert_close(
        soft_top_k(s, everywhere(s), k, temperature=temperature), n * plan[..., :k].sum(-1), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_follows_a_permutation_of_the_candidates(temperature: float) -> None:
    s, mask = ragged()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    straight = soft_top_k(s, mask, 3, temperature=temperature)
    torch.testing.assert_close(
        soft_top_k(s[:, order], mask[:, order], 3, temperature=temperature), straight[:, order]
    )


def test_a_better_score_never_lowers_the_own_share_and_the_order_is_kept() -> None:
    s = scores(1)
    mask = everywhere(s)
    base = soft_top_k(s, mask, 3, temperature=0.05)
    assert bool((base[0][s[0].argsort()].diff() >= -1e-12).all())
    for x in range(12):
        raised = s.clone()
        raised[0, x] += 0.02
        assert float(soft_top_k(raised, mask, 3, temperature=0.05)[0, x]) > float(base[0, x])


def test_becomes_the_hard_choice_as_the_temperature_falls() -> None:
    s = scores()
    hard = torch.zeros_like(s).scatter(1, s.topk(3).indices, 1.0)
    errors = [
        float((soft_top_k(s, everywhere(s), 3, temperature=t) - hard).abs().max()) for t in (0.1, 0.01, 1e-5)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


def test_equal_scores_share_equally_in_both_precisions() -> None:
    for dtype in (torch.float32, torch.float64):
        s = torch.full((2, 8), 0.3, dtype=dtype)
        alpha = soft_top_k(s, everywhere(s), 2)
        assert alpha.dtype == dtype
        torch.testing.assert_close(alpha, torch.full_like(s, 0.25))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_candidates_far_below_change_nothing(temperature: float) -> None:
    s = scores()
    more = torch.cat([s, torch.full((4, 5), -40.0, dtype=torch.float64)], 1)
    few = soft_top_k(s, everywhere(s), 3, temperature=temperature)
    many = soft_top_k(more, everywhere(more), 3, temperature=temperature)
    torch.testing.assert_close(many[:, :12], few, rtol=0, atol=1e-8)
    assert float(many[:, 12:].max()) < 1e-12


def test_the_implicit_backward_passes_gradcheck_with_padding_and_users_of_different_temperature() -> None:
    s, mask = ragged()
    T = torch.tensor([0.3, 0.1, 0.05, 0.2], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: _SoftTopK.apply(x, mask, 3, T),  # type: ignore[no-untyped-call]
        (s.requires_grad_(),),
        atol=1e-4,
        rtol=1e-4,
    )


def test_the_gradient_neither_moves_all_scores_together_nor_touches_padding() -> None:
    """Σα = k and shift invariance, in terms of derivatives."""
    s, mask = ragged()
    s.requires_grad_()
    weight = scores(seed=5)
    (grad,) = torch.autograd.grad((soft_top_k(s, mask, 3, temperature=0.05) * weight).sum(), s)
    assert float(grad[~mask].abs().max()) == 0.0
    torch.testing.assert_close(grad.sum(-1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-7)
    (of_sum,) = torch.autograd.grad(soft_top_k(s, mask, 3, temperature=0.05).sum(), s)
    assert float(of_sum.abs().max()) < 1e-7


def test_gradients_stay_finite_where_the_choice_is_hard() -> None:
    s = scores().requires_grad_()
    (grad,) = torch.autograd.grad(soft_top_k(s, everywhere(s), 3, temperature=1e-7).square().sum(), s)
    assert bool(grad.isfinite().all())


def test_the_relative_temperature_makes_the_shares_free_of_the_scores_scale() -> None:
    s, mask = ragged()
    torch.testing.assert_close(soft_top_k(s, mask, 3), soft_top_k(s * 0.02 + 0.4, mask, 3), rtol=0, atol=1e-8)
    torch.testing.assert_close(
        relative_temperature(s[:1], mask[:1]), 0.05 * (s[0].quantile(0.75) - s[0].quantile(0.25))[None]
    )


def test_the_relative_temperature_is_above_zero_for_equal_scores() -> None:
    s = torch.zeros(1, 5)
    assert float(relative_temperature(s, everywhere(s))) > 0


def test_refuses_a_user_with_nothing_to_choose_and_a_temperature_of_zero() -> None:
    s = scores(1, 3)
    with pytest.raises(ValueError, match="more than k = 3"):
        soft_top_k(s, everywhere(s), 3)
    with pytest.raises(ValueError, match="`temperature`"):
        soft_top_k(s, everywhere(s), 2, temperature=0.0)


def test_no_users_is_no_problem() -> None:
    s = torch.zeros(0, 5)
    assert soft_top_k(s, everywhere(s), 2, temperature=0.1).shape == (0, 5)
