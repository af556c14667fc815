"""Dynamic balancing: the objective that lags gets the weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

BalanceMode = Literal["poster", "scaled", "gradcraft"]
"""`poster` and `scaled` weigh objectives by their values (`objective_weights`); `gradcraft` by the Gramian of
their gradients (`gradient_weights`)."""

_MOST_DECADES = 6  # an objective at 0 would be multiplied forever


def objective_weights(
    values_T: Tensor,
    *,
    tau: float = 0.5,
    mode: Literal["poster", "scaled"] = "scaled",
    disable: int | None = None,
) -> Tensor:
    """Return ω in M = Σ ω_i M_i.

        poster:   ω = softmax(-τ M)
        scaled:   ω = softmax(-τ 10ᵖ M),  p the smallest with 10ᵖ min(M) ≥ 1

    On means of size 0.1 the poster's softmax is nearly uniform; `scaled` puts nearly everything on the
    smallest. τ = 0 is uniform in both.

    Args:
        values_T: `[T]` objectives as means over users, ≥ 0.
        tau: sharpness, 0 to 1.
        mode: see above.
        disable: index of an objective to leave out: it gets 0 and the others 1 (the paper's ablation).

    Returns:
        `[T]`, detached: weights are constants for the gradient.

    Raises:
        ValueError: if τ is negative or `disable` is no index.

    Source: LabelCraft, poster (`poster`) and released code (the multiplication by ten). The code balances
    sums over users, which makes the result depend on how many there are; these are means.
    """
    if tau < 0:
        raise ValueError(f"`tau` must be 0 or more, got {tau}.")
    values = values_T.detach()
    if disable is not None:
        if not 0 <= disable < len(values):
            raise ValueError(f"`disable` must be 0 to {len(values) - 1}, got {disable}.")
        weights = torch.ones_like(values)
        weights[disable] = 0.0
        return weights
    if mode == "scaled":
        for _ in range(_MOST_DECADES):
            if float(values.min()) >= 1:
                break
            values = values * 10
    return torch.softmax(-tau * values, 0)


def gradient_weights(
    gradients_T: Sequence[Mapping[str, Tensor]], *, tau: float = 0.1, disable: int | None = None
) -> Tensor:
    """Return ω in Σ ω_i ∇M_i by GradCraft, as a ranker of many objectives is balanced (`training.balance`).

    Args:
        gradients_T: of each objective over the same parameters, by name.
        tau: τ of GradCraft, how far lengths are brought to the longest's.
        disable: index of an objective to leave out.

    Returns:
        `[T]`, detached.

    Ours: LabelCraft balances by values, which says nothing of conflicts.
    """
    # TorchJD takes more than a second to import: only fits that need it wait for it.
    from training.balance import GradCraft

    flat_TP = torch.stack([torch.cat([g.flatten() for g in one.values()]) for one in gradients_T]).detach()
    if disable is not None:
        flat_TP[disable] = 0.0
    weights: Tensor = GradCraft(tau)(flat_TP @ flat_TP.T)
    return weights
