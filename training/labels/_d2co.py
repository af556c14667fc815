"""D2Co: watch time between the noise and the interest of videos as long."""

# Shape suffixes: N rows, F feedback columns, G duration groups.

from __future__ import annotations

from typing import Final, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from models.arrays import F32, F64, I64
from models.errors import BadInput
from training.data import Interactions
from training.labels._base import LabelMaker, duration_s, watch_time_s
from training.strata import DurationGroups

_ROUNDS: Final = 200
_CLOSE: Final = 1e-6
"""Change of the means, relative to the spread of the values, at which EM stops."""


class D2Co(LabelMaker):
    """`y = (e^{αw} - e^{αμ_n}) / (e^{αμ_s} - e^{αμ_n})` clipped to [0, 1]; linear in w as α → 0.

    μ_n(d) and μ_s(d), the mean watch times of those who skip and of those who care, are the two components
    of a Gaussian mixture fitted to the watch times of each duration group, smoothed over neighbouring
    groups by their rows. A group of fewer than `min_rows` rows takes those of all rows; where both are
    the same, a watch beyond them is labelled 1 and any other 0.

    Source: Zhao et al., "Uncovering User Interest from Biased and Noised Watch Time in Video
    Recommendation", RecSys 2023. Deviation: groups of equal size instead of single seconds, which have too
    few rows for two components outside large logs. EM is written out below: for one dimension and two
    components a library would be the larger part to keep.

    Args:
        groups: duration groups.
        alpha: α ≥ 0 per second; 0 for the linear limit.
        window: groups averaged over, odd.
        min_rows: rows below which a group takes the components of all rows.

    Raises:
        BadInput: from `fit`, without training rows.
        ValueError: an even window, a negative α.
    """

    name = "d2co"
    description = "watch time between the noise and the interest level of its duration"
    noise: Tensor
    """`[G]` μ_n in seconds"""
    signal: Tensor
    """`[G]` μ_s in seconds"""

    def __init__(self, groups: int = 30, alpha: float = 0.0, window: int = 3, *, min_rows: int = 50) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise ValueError(f"`window` must be odd and at least 1, got {window}.")
        if alpha < 0:
            raise ValueError(f"`alpha` must be 0 or more, got {alpha}.")
        self.alpha, self.window, self.min_rows = alpha, window, min_rows
        self.groups = DurationGroups(groups)
        self.register_buffer("noise", torch.zeros(groups))
        self.register_buffer("signal", torch.ones(groups))

    def fit(self, train: Interactions) -> Self:
        if not len(train):
            raise BadInput("D2Co needs training rows to fit its mixtures on, found none; check the dates.")
        group = self.groups.fit(train.duration_s)(torch.from_numpy(train.duration_s)).numpy()
        count = np.bincount(group, minlength=self.groups.groups)
        overall = two_components(train.watch_time_s)
        found = [
            two_components(train.watch_time_s[group == g]) if n >= self.min_rows else overall
            for g, n in enumerate(count)
        ]
        self.noise = torch.from_numpy(self._smooth(np.array([m.low for m in found]), count))
        self.signal = torch.from_numpy(self._smooth(np.array([m.high for m in found]), count))
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        means_N2 = embedding(self.groups(duration_s(feedback_NF)), torch.stack([self.noise, self.signal], 1))
        noise_N, signal_N = means_N2[:, 0], means_N2[:, 1]
        whole_N = (signal_N - noise_N).clamp_min(1e-3)
        above_N = (watch_time_s(feedback_NF) - noise_N).clamp_min(0.0).minimum(whole_N)
        if not self.alpha:
            return above_N / whole_N
        # The equation times e^{-α(w - μ_n)}: no exponent is above 0, nothing overflows.
        rise_N = torch.expm1(-self.alpha * above_N) / torch.expm1(-self.alpha * whole_N)
        return torch.exp(self.alpha * (above_N - whole_N)) * rise_N

    def _smooth(self, mean: F64, count: I64) -> F32:
        """`[G]` a moving average weighted by rows; the window is cut at the ends."""
        ones = np.ones(self.window)
        rows = np.convolve(count, ones, mode="full")[self.window // 2 :][: len(count)]
        total = np.convolve(mean * count, ones, mode="full")[self.window // 2 :][: len(count)]
        out: F32 = np.divide(total, rows, out=mean.copy(), where=rows > 0).astype(np.float32)
        return out


class Mixture(NamedTuple):
    """Means of the two components, in the unit of the values."""

    low: float
    high: float


def two_components(values: F32) -> Mixture:
    """Means of a mixture of two Gaussians, by EM from the halves below and above the median.

    Deviations are kept above a thousandth of the spread, so that a tie of values is no component of
    infinite density. Values that are all the same are both means.
    """
    v = values.astype(np.float64)
    spread = float(np.ptp(v))
    if spread == 0:
        return Mixture(float(v[0]), float(v[0]))
    upper = v > np.median(v)
    if not upper.any():
        upper = v >= v.max()
    weight = np.stack([~upper, upper]).astype(np.float64)
    before = np.zeros(2)
    for _ in range(_ROUNDS):
        rows = weight.sum(1)
        mean = weight @ v / rows
        variance = (weight * (v - mean[:, None]) ** 2).sum(1) / rows
        deviation = np.sqrt(np.maximum(variance, (1e-3 * spread) ** 2))
        if np.abs(mean - before).max() < _CLOSE * spread:
            break
        before = mean
        log_density = np.log(rows / deviation)[:, None] - ((v - mean[:, None]) / deviation[:, None]) ** 2 / 2
        # Both sides by themselves: 1 minus the other would be 0 rows where one component has everything.
        odds = np.exp(np.clip(log_density[1] - log_density[0], -500, 500))
        weight = np.stack([1 / (1 + odds), 1 / (1 + 1 / odds)])
    return Mixture(float(mean.min()), float(mean.max()))
