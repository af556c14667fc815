"""DVR's adversary: a reconstructor of the duration whose gradient is turned around."""

# Shape suffixes: B rows of a batch.

from __future__ import annotations

from typing import Any, Final, Self

import torch
from torch import Tensor, nn

_FLAT: Final = 1e-6  # a score that does not vary gives nothing back


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
    training rows, so that λ_adv does not depend on the unit; and the line is the best one for each batch
    (`fit`), where the authors let it learn beside the model: one that lags behind is fooled by turning the
    score around, and the score ends up correlated with the duration the other way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    @torch.no_grad()
    def fit(self, score_B: Tensor, duration_B: Tensor) -> Self:
        """Put the line where it gives the durations of a batch back best: least squares."""
        apart_B = score_B - score_B.mean()
        slope = (apart_B * (duration_B - duration_B.mean())).sum() / (apart_B**2).sum().clamp_min(_FLAT)
        self.line.weight.fill_(slope)
        self.line.bias.fill_(duration_B.mean() - slope * score_B.mean())
        return self

    def forward(self, score_B: Tensor, duration_B: Tensor) -> Tensor:
        """`[B]` scores and standardised durations -> the loss, a scalar."""
        guess_B = self.line(reverse_gradient(score_B)[:, None])[:, 0]
        return nn.functional.mse_loss(guess_B, duration_B)
