"""Probabilities that mean what they say: Platt's line for each objective, fitted on rows held out."""

# Shape suffixes: N rows, T objectives.

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import F32, F64

_SLOPES: Final = (0.2, 5.0)
"""No slope leaves these bounds: with few positives a line may be anything."""
_STEPS: Final = 50
_RIDGE: Final = 1.0
"""Pull of the slope towards 1, in rows' worth of curvature."""


class Platt(nn.Module):
    """logit -> slope · logit + shift, a line an objective; the identity until it is fitted.

    Two numbers, where isotonic regression has a table: rare objectives have dozens of positives in the rows
    held out, and the lines found there hold for the second fit on all days, which has no such rows. Both are
    monotone, so that no order within an objective changes.
    """

    slope: Tensor
    shift: Tensor

    def __init__(self, objectives: int) -> None:
        super().__init__()
        self.register_buffer("slope", torch.ones(objectives))
        self.register_buffer("shift", torch.zeros(objectives))

    def fit(self, logit_NT: F32, happened_NT: F32) -> None:
        """Fit every line on rows that the network was not fitted on.

        Args:
            logit_NT: before calibration.
            happened_NT: in [0, 1]; a column that is 0, or 1, everywhere keeps its line.
        """
        for t in range(logit_NT.shape[1]):
            slope, shift = platt(logit_NT[:, t].astype(np.float64), happened_NT[:, t].astype(np.float64))
            self.slope[t], self.shift[t] = slope, shift

    def forward(self, logit_T: Tensor) -> Tensor:
        """`[..., T]` -> `[..., T]`"""
        return logit_T * self.slope + self.shift


def platt(logit_N: F64, happened_N: F64) -> tuple[float, float]:
    """Slope and shift of the line with the least cross-entropy, by Newton's method.

        min  Σ BCE(σ(a z + b), y) + r (a - 1)² / 2

    The ridge r is worth a row: it decides only where the rows say nothing of the slope.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999; with the ridge and bounds on the
    slope instead of smoothed targets, which would keep rare objectives from ever being rare.
    """
    if not len(logit_N) or happened_N.min() == happened_N.max():
        return 1.0, 0.0
    middle = float(logit_N.mean())
    z = logit_N - middle
    a, b = 1.0, middle
    for _ in range(_STEPS):
        slope, hessian = _derivatives(a, b, z, happened_N)
        step = np.linalg.solve(hessian, slope)
        # A Newton step may overshoot where nearly everything is certain; none goes far at once.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        a, b = float(np.clip(a - step[0], *_SLOPES)), float(b - step[1])
    for _ in range(_STEPS if a in _SLOPES else 0):
        slope, hessian = _derivatives(a, b, z, happened_N)
        b -= float(np.clip(slope[1] / hessian[1, 1], -2.0, 2.0))
    return a, b - a * middle


def _derivatives(a: float, b: float, z: F64, happened_N: F64) -> tuple[F64, F64]:
    """Gradient `[2]` and Hessian `[2, 2]` in slope and shift."""
    p = 1.0 / (1.0 + np.exp(-np.clip(a * z + b, -40, 40)))
    miss, curve = p - happened_N, np.maximum(p * (1 - p), 1e-12)
    across = curve @ z
    return (
        np.array([miss @ z + _RIDGE * (a - 1), miss.sum()]),
        np.array([[curve @ (z * z) + _RIDGE, across], [across, curve.sum()]]),
    )
