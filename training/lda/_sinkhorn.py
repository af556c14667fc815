"""Sinkhorn in the log domain, balanced or with one relaxed side."""

# Shape suffixes: ... batch, N rows (what is assigned), M columns (anchors).

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(
    cost: Tensor,
    mu: Tensor,
    nu: Tensor,
    *,
    epsilon: float | Tensor,
    kappa: float | None = None,
    iterations: int = 100,
    tolerance: float = 0.0,
    potential: Tensor | None = None,
) -> Tensor:
    """Compute the entropic transport plan from rows to columns.

        P* = argmin  <C, P> + ε KL(P | μ ν')  [+ κ KL(P'1 | ν)]      s.t.  P 1 = μ  [and P'1 = ν]

    The bracket on the right holds in the balanced problem (`kappa=None`), the one on the left in the
    semi-relaxed one: rows keep their mass exactly, columns may take more or less than their share and pay
    for it. κ → ∞ is the balanced problem; κ → 0 is the row-wise softmax of `log ν - C/ε`.

    Each round is `u = -LSE_m(log ν - C/ε + v)`, `v = -ρ LSE_n(log μ - C/ε + u)` with ρ = κ/(κ+ε), and a
    last row update makes row sums exact, so the total mass is Σμ whether or not it has converged.

    Args:
        cost: `[..., N, M]` float32 or float64. +inf forbids a pair.
        mu: `[..., N]` masses of the rows, ≥ 0. A row of mass 0 is padding and gets a plan of 0.
        nu: `[..., M]` masses of the columns, ≥ 0; leading dims broadcast. In the balanced problem Σν = Σμ.
        epsilon: temperature in the unit of `cost`, > 0: a number or one per problem, `[...]`.
        kappa: price of leaving ν, in the unit of `cost`; `None` forbids it.
        iterations: most rounds.
        tolerance: stop earlier, once no column's potential (in units of ε) moves more than this in a round.
        potential: `[..., M]` where v starts, in units of ε; zeros when left out.

    Returns:
        `[..., N, M]` plan, ≥ 0, without a gradient: both callers treat it as a constant (LDA's pseudo-labels
        are detached by definition, the soft top-k has its own backward). A row with mass but without an
        allowed pair has nowhere to go: it gets 0 as well.

    Raises:
        ValueError: if ε is not above 0 or κ is negative.

    Source: Cuturi, "Sinkhorn Distances", NIPS 2013; Chizat et al., "Scaling Algorithms for Unbalanced
    Optimal Transport Problems", Math. Comp. 2018 (exponent ρ). Compared with POT in the tests.
    """
    eps = torch.as_tensor(epsilon, dtype=cost.dtype, device=cost.device)
    if not bool((eps > 0).all()):
        raise ValueError(f"`epsilon` must be above 0, got {epsilon}.")
    if kappa is not None and kappa < 0:
        raise ValueError(f"`kappa` must be 0 or more, or None for the balanced problem, got {kappa}.")
    eps = eps[..., None, None] if eps.dim() else eps
    rho = 1.0 if kappa is None else kappa / (kappa + eps[..., 0] if eps.dim() else kappa + eps)
    log_mu = mu.to(cost.dtype).log()
    log_nu = nu.to(cost.dtype).log()
    kernel = -cost / eps
    to_columns = kernel + log_nu[..., None, :]  # what a row sees
    to_rows = kernel + log_mu[..., :, None]  # what a column sees

    v = torch.zeros_like(to_columns[..., 0, :]) if potential is None else potential
    u = _minus_lse(to_columns + v[..., None, :], -1)
    for _ in range(iterations):
        before = v
        v = rho * _minus_lse(to_rows + u[..., :, None], -2)
        u = _minus_lse(to_columns + v[..., None, :], -1)
        if tolerance > 0 and bool(((v - before).abs() <= tolerance).all()):
            break
    return (to_columns + log_mu[..., :, None] + u[..., :, None] + v[..., None, :]).exp()


def _minus_lse(x: Tensor, dim: int) -> Tensor:
    """`-log Σ exp(x)`, and 0 where nothing is allowed (the plan is 0 there whatever the potential)."""
    lse = torch.logsumexp(x, dim)
    return torch.where(lse.isfinite(), -lse, torch.zeros_like(lse))
