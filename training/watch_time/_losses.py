"""Regression losses on watch time in units of its own scale."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, huber_loss, l1_loss, mse_loss

from models.arrays import F32
from training.watch_time._mixture import mixture_rank

Regression = Literal["mse", "l1", "huber"]
_LEAST_RANK = 1e-3


def regression_loss(kind: Regression, predicted_N: Tensor, actual_N: Tensor, *, delta: float) -> Tensor:
    """Return the mean loss of `[N]` predictions.

    `mse` is least at the mean, `l1` at the median, `huber` in between: squared up to `delta`, linear beyond.
    On heavy-tailed watch times mean and median lie far apart, and the MAE is least at the median.
    """
    if kind == "mse":
        return mse_loss(predicted_N, actual_N)
    if kind == "l1":
        return l1_loss(predicted_N, actual_N)
    return huber_loss(predicted_N, actual_N, delta=delta)


RankError = Literal["squared", "cross_entropy"]


class RankLoss(nn.Module):
    """How far the rank of the predicted seconds among the training rows' is from the rank of the watched.

        squared          mean( (F(ŵ) - F(w))² )
        cross_entropy    mean( -F(w) log F(ŵ) - (1 - F(w)) log(1 - F(ŵ)) )

    F is the share of the training rows that were watched no longer, interpolated between quantiles. Absolute
    error asks for the median, and rows of one median come in any order; the mean rank orders them,
    which is what XAUC counts. Both are least at the mean rank; of rows at either end, where a step of the
    rank is a large step on the scale of log-odds, the cross-entropy says more. On KuaiRand-Pure it orders no
    better (`reports/variants-lda`). Ours.

    Buffers: the quantiles of the training rows, as where the first part begins, the parts' widths and the
    shares of the rows in them.

    Args:
        error: which of the two.
        parts: how many parts the training rows are cut into.
    """

    start: Tensor
    width: Tensor
    share: Tensor

    def __init__(self, error: RankError = "squared", parts: int = 64) -> None:
        super().__init__()
        self.error = error
        self.register_buffer("start", torch.zeros(1))
        self.register_buffer("width", torch.zeros(parts))
        self.register_buffer("share", torch.zeros(parts))

    def fit(self, watch_time_s: F32) -> Self:
        """Read the quantiles off training rows, at least one."""
        levels = np.linspace(0, 1, len(self.width) + 1)
        edge = np.quantile(watch_time_s, levels)
        below = np.searchsorted(np.sort(watch_time_s), edge, side="right") / len(watch_time_s)
        below[0] = 0.0
        self.start.fill_(float(edge[0]))
        self.width.copy_(torch.from_numpy(np.diff(edge)))
        self.share.copy_(torch.from_numpy(np.diff(below)))
        return self

    def forward(self, predicted_N: Tensor, actual_N: Tensor) -> Tensor:
        """`[N]` seconds each -> a scalar."""
        predicted_N, actual_N = self._rank(predicted_N), self._rank(actual_N)
        if self.error == "squared":
            return mse_loss(predicted_N, actual_N)
        # Beyond the outermost quantiles the rank is 0 or 1 for certain, and no row is worth infinity.
        return binary_cross_entropy(predicted_N.clamp(_LEAST_RANK, 1 - _LEAST_RANK), actual_N)

    def _rank(self, seconds_N: Tensor) -> Tensor:
        return mixture_rank(seconds_N, self.start, self.width, self.share)
