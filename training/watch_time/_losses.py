"""Regression losses on watch time in units of its own scale."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import huber_loss, l1_loss, mse_loss

Regression = Literal["mse", "l1", "huber"]


def regression_loss(kind: Regression, predicted_N: Tensor, actual_N: Tensor, *, delta: float) -> Tensor:
    """Mean loss of `[N]` predictions.

    `mse` is least at the mean, `l1` at the median, `huber` in between: squared up to `delta`, linear beyond.
    On heavy-tailed watch times mean and median lie far apart, and the MAE judges the median.
    """
    if kind == "mse":
        return mse_loss(predicted_N, actual_N)
    if kind == "l1":
        return l1_loss(predicted_N, actual_N)
    return huber_loss(predicted_N, actual_N, delta=delta)
