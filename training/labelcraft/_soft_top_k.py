"""Soft top-k: which candidates are among a user's k best, as a function one can differentiate."""

# Shape suffixes: U users, C candidates (padded), K the k best, A = K + 1 anchors.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from training.lda import sinkhorn

_SINKHORN_ROUNDS = 5  # enough to be near the solution when started at the sorted scores
_NEWTON_ROUNDS = 30
_CONVERGED = 1e-11  # column sums, in candidates
_RIDGE = 1e-12  # at T → 0 the plan is a permutation and the system below is singular; the gradient is 0 there


def relative_temperature(
    scores_UC: Tensor, mask_UC: Tensor, *, share: float = 0.05, floor: float = 1e-6
) -> Tensor:
    """Return a temperature that follows how far apart a user's scores are.

        T_u = max(share · IQR(s_u),  share/50 · (max s_u - min s_u),  floor)

    A fixed ε blurs a recommender whose scores lie in a narrow band (0.02 wide: 20 of 60 candidates) and
    hardens one whose scores are spread, so the same label would get another gradient as training goes on.
    The second term serves users with more than half of their scores equal; below the third, differences of
    scores in (0, 1) are rounding.

    Args:
        scores_UC: `[U, C]`.
        mask_UC: `[U, C]` true where there is a candidate; at least one a user.

    Returns:
        `[U]`, detached, in the unit of the scores.

    Source: ours. The released code's ε = 1e-4 corresponds to T = ε k²/2 on scores in [0, 1].
    """
    with torch.no_grad():
        s = torch.where(mask_UC, scores_UC, torch.nan)
        quartiles = torch.nanquantile(s, torch.tensor([0.0, 0.25, 0.75, 1.0]).to(s), dim=-1)
        iqr = quartiles[2] - quartiles[1]
        spread = quartiles[3] - quartiles[0]
        return torch.maximum(share * iqr, share / 50 * spread).clamp_min(floor)


def soft_top_k(
    scores_UC: Tensor, mask_UC: Tensor, k: int, *, temperature: Tensor | float | None = None
) -> Tensor:
    """Return α: to what share each candidate is among its user's k best.

    Entropic optimal transport from a user's n candidates, of mass 1 each, to anchors at k, k-1, …, 1 of
    mass 1 and 0 of mass n - k, with cost (s - anchor)²:

        Γ* = argmin <C, Γ> + ε_C KL(Γ),      α_x = Σ_{anchors > 0} Γ*_x

    s² and anchor² are absorbed by the marginals, so the plan depends on s·anchor / T alone, T = ε_C/2; with
    the cost divided by its maximum (k² for scores in [0, 1]) and ε as the paper counts it, T = ε k²/2.

    Forward: Sinkhorn started at the hard solution, then Newton on the anchors' potentials until column
    sums are exact. Backward: implicit, one k × k system a user, nothing is unrolled. Inside it is float64:
    the system is nearly singular where the choice is nearly hard.

    Args:
        scores_UC: `[U, C]` float, any range.
        mask_UC: `[U, C]` true where there is a candidate; more than k a user.
        k: size of the slate.
        temperature: T in the unit of the scores, one or `[U]`; `relative_temperature` if left out. It is a
            constant for the gradient.

    Returns:
        `[U, C]` in [0, 1]; rows sum to k; 0 on padding. Monotone in the own score, permutation-equivariant,
        and the hard indicator as T → 0.

    Raises:
        ValueError: if some user has k candidates or fewer (there is nothing to choose), or T is not above 0.

    Source: Xie et al., "Differentiable Top-k with Optimal Transport", NeurIPS 2020, the sorted variant, as
    LabelCraft uses it. Deviations: Newton after few Sinkhorn rounds instead of 1000 rounds, which leave an
    error of 7e-4 at ε = 1e-4; temperature relative to the scores' spread.
    """
    counts_U = mask_UC.sum(-1)
    if len(counts_U) and int(counts_U.min()) <= k:
        raise ValueError(
            f"every user needs more than k = {k} candidates, found one with {int(counts_U.min())}; "
            "leave such users out."
        )
    if temperature is None:
        temperature = relative_temperature(scores_UC, mask_UC)
    T_U = torch.as_tensor(temperature, dtype=torch.float64, device=scores_UC.device).detach()
    if not bool((T_U > 0).all()):
        raise ValueError(f"`temperature` must be above 0, got {temperature}.")
    alpha: Tensor = _SoftTopK.apply(scores_UC, mask_UC, k, T_U.expand(len(scores_UC)))  # type: ignore[no-untyped-call]
    return alpha


class _SoftTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scores_UC: Tensor, mask_UC: Tensor, k: int, T_U: Tensor) -> Tensor:
        plan_UCA = _plan(scores_UC.detach().double(), mask_UC, k, T_U)
        ctx.save_for_backward(plan_UCA, T_U)
        ctx.k = k  # type: ignore[attr-defined]
        return plan_UCA[..., :k].sum(-1).to(scores_UC.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_UC: Tensor) -> tuple[Tensor, None, None, None]:
        """∂loss/∂s_x = 1/T Σ_j Γ_xj anchor_j (G_xj - a_x - b_j), G = ∂loss/∂α on the K first columns.

        a and b keep the marginals where they are: `Σ_j Γ(G - a - b) = 0`, `Σ_x Γ(G - a - b) = 0`. With unit
        rows a = g̃ - Γ̂b and one K × K system is left, (diag(Σ_x Γ̂) - Γ̂'Γ̂) b = Σ_x Γ̂(G - g̃), where Γ̂ is
        the first K columns (b of the last is 0) and g̃ the row mean of G.
        """
        plan_UCA, T_U = ctx.saved_tensors
        k: int = ctx.k
        plan_UCK = plan_UCA[..., :k]
        g_UC = grad_UC.double()
        alpha_UC = plan_UCK.sum(-1)
        mean_UC = g_UC * alpha_UC
        right_UK = torch.einsum("uck,uc->uk", plan_UCK, g_UC - mean_UC)
        b_UK = torch.linalg.solve(_schur(plan_UCK), right_UK)
        a_UC = mean_UC - torch.einsum("uck,uk->uc", plan_UCK, b_UK)
        anchors_K = _anchors(k, plan_UCA)[:k]  # the last anchor is 0 and drops out
        inner_UCK = plan_UCK * (g_UC[..., None] - a_UC[..., None] - b_UK[:, None, :])
        grad = (inner_UCK @ anchors_K) / T_U[:, None]
        return grad.to(grad_UC.dtype), None, None, None


def _anchors(k: int, like: Tensor) -> Tensor:
    return torch.arange(k, -1, -1, dtype=like.dtype, device=like.device)


def _schur(plan_UCK: Tensor) -> Tensor:
    """`[U, K, K]` diag(Σ_x Γ̂) - Γ̂'Γ̂: how column sums answer to the anchors' potentials, rows renormalised."""
    gram = plan_UCK.transpose(-1, -2) @ plan_UCK
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.diag_embed(plan_UCK.sum(-2)) - gram + _RIDGE * eye


def _plan(scores_UC: Tensor, mask_UC: Tensor, k: int, T_U: Tensor) -> Tensor:
    """`[U, C, A]` the plan with rows of mass 1."""
    # Shifting a user's scores changes nothing in exact arithmetic, and keeps s·anchor/T small here.
    ordered_UK = torch.where(mask_UC, scores_UC, -torch.inf).topk(k + 1, dim=-1).values
    scaled_UC = (scores_UC - ordered_UK[:, -1:]) / T_U[:, None]
    ordered_UK = (ordered_UK - ordered_UK[:, -1:]) / T_U[:, None]
    scaled_UC = torch.where(mask_UC, scaled_UC, 0.0)

    counts_U = mask_UC.sum(-1).double()
    mass_UA = torch.ones(len(counts_U), k + 1, dtype=torch.float64, device=scores_UC.device)
    mass_UA[:, k] = counts_U - k
    # Where the hard solution changes from one anchor to the next, both cost the same: this fixes v.
    boundary_UK = (ordered_UK[:, :-1] + ordered_UK[:, 1:]) / 2
    start_UA = torch.zeros_like(mass_UA)
    start_UA[:, :k] = -boundary_UK.flip(-1).cumsum(-1).flip(-1)
    plan_UCA = sinkhorn(
        -scaled_UC[..., None] * _anchors(k, scores_UC),
        mask_UC.double(),
        mass_UA,
        epsilon=1.0,
        iterations=_SINKHORN_ROUNDS,
        potential=start_UA - mass_UA.log(),
    )
    return _newton(plan_UCA, mass_UA, k)


def _newton(plan_UCA: Tensor, mass_UA: Tensor, k: int) -> Tensor:
    """Exact column sums: regularised Newton on the concave dual, in multiplicative form on the plan."""
    for _ in range(_NEWTON_ROUNDS):
        missing_UK = mass_UA[:, :k] - plan_UCA[..., :k].sum(-2)
        error_U = missing_UK.abs().amax(-1, keepdim=True)
        if float(error_U.amax() if len(error_U) else 0.0) < _CONVERGED:
            break
        # Far from the solution the damping makes the step a short one along the gradient.
        damped_UKK = _schur(plan_UCA[..., :k]) + torch.diag_embed(0.1 * error_U.expand_as(missing_UK))
        step_UK = torch.linalg.solve(damped_UKK, missing_UK).clamp(-5.0, 5.0)
        plan_UCA = torch.cat([plan_UCA[..., :k] * step_UK[:, None, :].exp(), plan_UCA[..., k:]], -1)
        rows_UC1 = plan_UCA.sum(-1, keepdim=True)
        plan_UCA = plan_UCA / torch.where(rows_UC1 > 0, rows_UC1, 1.0)
    return plan_UCA
