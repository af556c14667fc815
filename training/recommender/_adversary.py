"""DVR's adversary: a reconstructor of the duration whose gradient is turned around."""

# Shape suffixes: B rows of a batch.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        reversed_: Tensor = -grads[0]
        return reversed_


def reverse_gradient(x: Tensor) -> Tensor:
    """x itself; on the way back its gradient changes sign.

    What comes after learns as ever, what comes before learns to make it fail.

    Source: Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015.
    """
    out: Tensor = _Reverse.apply(x)  # type: ignore[no-untyped-call]
    return out


class Adversary(nn.Module):
    """`MSE(a ŷ + b, d)`: how well a line gives the duration back from the score alone.

    The score reaches it through `reverse_gradient`, so minimising this fits the line and takes out of the
    score what the line can use.

    Source: Zheng et al., DVR, MM 2022: linear, from the scalar prediction. Ours: d is standardised on the
    training rows, so that λ_adv does not depend on the unit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, score_B: Tensor, duration_B: Tensor) -> Tensor:
        """`[B]` scores and standardised durations -> the loss, a scalar."""
        guess_B = self.line(reverse_gradient(score_B)[:, None])[:, 0]
        return nn.functional.mse_loss(guess_B, duration_B)
