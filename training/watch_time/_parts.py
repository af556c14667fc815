"""The axis of watch time cut into parts: what heads that classify have in common."""

# Shape suffixes: N exposures (any leading dims where a method says `...`), K parts, M = K - 1 thresholds.

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import F32, F64
from training.watch_time._base import QUANTILES, Prediction
from training.watch_time._mixture import (
    mixture_crps,
    mixture_quantiles,
    mixture_rank,
    state_edges,
    state_probabilities,
)


class Parts(nn.Module):
    """Seconds between neighbouring edges 0 = τ_0 ≤ τ_1 ≤ … ≤ τ_M ≤ τ_K; part k holds τ_k < w ≤ τ_{k+1}.

    The thresholds τ_1 … τ_M are quantiles of the training rows. The last part has no natural end: τ_K is
    put where its midpoint becomes the mean of what was watched beyond τ_M, so that one long replay does
    not move every prediction. Watch times that many rows share make thresholds coincide, and the part
    between them is empty and of no width.

    Edges are a buffer of fixed size, so that a saved head can be read back without its data.
    """

    edge_s: Tensor
    """`[K + 1]` seconds, ascending from 0; NaN before `fit`"""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.register_buffer("edge_s", torch.full((parts + 1,), torch.nan))

    @property
    def fitted(self) -> bool:
        """Whether there are edges."""
        return not bool(self.edge_s.isnan().any())

    @property
    def midpoint_s(self) -> Tensor:
        """`[K]` seconds."""
        return (self.edge_s[1:] + self.edge_s[:-1]) / 2

    def fit(self, watch_time_s: F32, share_M: F64) -> Self:
        """Put the thresholds at these shares of the training rows, ascending in (0, 1)."""
        threshold = np.quantile(watch_time_s, share_M).astype(np.float32)
        beyond = watch_time_s[watch_time_s > threshold[-1]].astype(np.float64)
        mean = beyond.mean() if len(beyond) else threshold[-1]
        edges = np.concatenate([[0.0], threshold, [2 * mean - threshold[-1]]])
        self.edge_s.copy_(torch.from_numpy(edges))
        return self

    def part(self, watch_time_N: Tensor) -> Tensor:
        """Return how many thresholds lie below `[N]` seconds, int64. For training: it has no ONNX."""
        return torch.bucketize(watch_time_N.contiguous(), self.edge_s[1:-1])

    def is_above(self, watch_time_N: Tensor) -> Tensor:
        """Return `[N]` seconds -> `[N, M]` float, 1[w > τ_m]."""
        return (watch_time_N[:, None] > self.edge_s[1:-1]).to(watch_time_N.dtype)

    def restore(self, above_M: Tensor) -> Tensor:
        """Return seconds from `[..., M]` probabilities P(w > τ_m).

            ŵ = Σ_m (τ_m - τ_{m-1}) P(w > τ_m) + tail · P(w > τ_M)

        The sum counts whole parts below the watch time, a lower sum of ∫ P(w > t) dt; the tail is the mean
        that training rows beyond τ_M were watched beyond it.
        """
        worth_M = self.edge_s.diff()[:-1]
        tail_1 = self.midpoint_s[-1:] - self.edge_s[-2:-1]
        return (above_M @ torch.cat([worth_M[:-1], worth_M[-1:] + tail_1])[:, None]).squeeze(-1)

    def predict(self, weight_K: Tensor, duration: Tensor, seconds: Tensor | None) -> Prediction:
        """Return the prediction of weights of the parts, each spread evenly over its part.

        Args:
            weight_K: `[..., K]`, each row summing to 1.
            duration: `[...]` seconds.
            seconds: `[...]` the point prediction; None for the median.
        """
        median = self._quantiles(weight_K, (0.5,)).squeeze(-1) if seconds is None else seconds
        return Prediction(
            seconds=median,
            weights=weight_K,
            ratio=self.midpoint_s / duration[..., None],
            quantiles_s=self._quantiles(weight_K, QUANTILES),
            mean_s=(weight_K @ self.midpoint_s[:, None]).squeeze(-1),
            states=state_probabilities(self._ranks(weight_K, state_edges(duration) * duration[..., None])),
        )

    def crps_s(self, weight_NK: Tensor, watch_time_N: Tensor) -> Tensor:
        """Return `[N]` seconds, see `mixture_crps`."""
        return mixture_crps(watch_time_N, weight_NK, self.edge_s[:1], self.edge_s.diff())

    def _ranks(self, weight_K: Tensor, seconds_3: Tensor) -> Tensor:
        return mixture_rank(seconds_3, self.edge_s[:1], self.edge_s.diff(), weight_K[..., None, :])

    def _quantiles(self, weight_K: Tensor, levels: tuple[float, ...]) -> Tensor:
        return mixture_quantiles(weight_K, self.edge_s[:1], self.edge_s.diff(), levels)


def weights_from_above(above_M: Tensor) -> Tensor:
    """Return `[..., K]` P(τ_k < w ≤ τ_{k+1}) from `[..., M]` P(w > τ_m), non-increasing in m."""
    first, last = 1 - above_M[..., :1], above_M[..., -1:]
    # Rounding makes a difference of two equal probabilities negative.
    return torch.cat([first, above_M[..., :-1] - above_M[..., 1:], last], -1).clamp(min=0)
