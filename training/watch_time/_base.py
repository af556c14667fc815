"""What a watch-time head is: a module from an encoder's state to seconds."""

# Shape suffixes: N exposures (any leading dims where a method says `...`), D state, K anchors.

from __future__ import annotations

from typing import NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from training.data import Interactions

QUANTILES = (0.1, 0.5, 0.9)
"""What `quantiles_s` gives, in this order."""


@runtime_checkable
class Head(Protocol):
    """A module from an encoder's state to seconds. Every head is an `nn.Module`.

    A prediction depends on its own row alone, so a request of one candidate and one of a thousand agree.
    Durations are known and above 0: the caller fills in unknown ones.
    """

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        """Fit everything that is frozen afterwards (groups, anchors, scales) on the training rows alone.

        Raises:
            ValueError: if there are no rows.
        """
        ...

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        """Return the mean training loss of N ≥ 1 rows, a scalar.

        Raises:
            ValueError: if called before `fit_tables`.
        """
        ...

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        """Return the predicted watch time, `[..., D]` and `[...]` -> `[...]` seconds, finite and ≥ 0."""
        ...


class Prediction(NamedTuple):
    """Everything a head with a distribution predicts of a row; K anchors, or other parts of the ratios."""

    seconds: Tensor
    """`[...]` watch time, as `Head.seconds`"""
    weights: Tensor
    """`[..., K]` as `distribution`"""
    ratio: Tensor
    """`[..., K]` as `distribution`"""
    quantiles_s: Tensor
    """`[..., 3]` as `quantiles_s`"""
    mean_s: Tensor
    """`[...]` expected watch time in seconds, of the same law as the quantiles"""
    states: Tensor
    """`[..., 3]` P(skip), P(complete) and P(replay) of the same law, in the order of `STATES`"""

    def cut(self, kept: Tensor) -> Prediction:
        """Return the prediction with a share `[...]` of the watch time left.

        Seconds and ratios are that share of what they were. Who would have watched to the end does so in that
        share of the cases, and the others skip.
        """
        skip, whole = self.states[..., :1], self.states[..., 1:]
        kept_1 = kept[..., None]
        return Prediction(
            seconds=self.seconds * kept,
            weights=self.weights,
            ratio=self.ratio * kept_1,
            quantiles_s=self.quantiles_s * kept_1,
            mean_s=self.mean_s * kept,
            states=torch.cat([1.0 - (1.0 - skip) * kept_1, whole * kept_1], dim=-1),
        )


@runtime_checkable
class DistributionHead(Head, Protocol):
    """A head that also predicts a distribution of the watch time."""

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        """Return all of it at once, so that an exported graph computes what is shared once."""
        ...

    def distribution(self, state_ND: Tensor, duration_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights `[..., K]`, each row summing to 1, and the watch ratios they belong to `[..., K]`,
        ascending in each row."""
        ...

    def quantiles_s(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        """Return `[..., 3]` seconds at `QUANTILES`, non-decreasing, finite and ≥ 0."""
        ...

    def crps_s(self, weight_NK: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        """Return the `[N]` ranked probability scores in seconds of the law that these weights are, see
        `mixture_crps`: each weight spread over its part, not at one ratio."""
        ...


class DistributionModule(nn.Module):
    """A `DistributionHead` whose parts are all read off `predict`."""

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        """Return everything that is predicted of each row, see `DistributionHead`."""
        raise TypeError(f"{type(self).__name__} predicts no distribution.")

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        return self.predict(state_ND, duration_N).seconds

    def distribution(self, state_ND: Tensor, duration_N: Tensor) -> tuple[Tensor, Tensor]:
        prediction = self.predict(state_ND, duration_N)
        return prediction.weights, prediction.ratio

    def quantiles_s(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        return self.predict(state_ND, duration_N).quantiles_s
