"""What a watch-time head is."""

# Shape suffixes: N exposures (any leading dims where a method says `...`), D state, K anchors.

from __future__ import annotations

from typing import NamedTuple, Protocol, Self, runtime_checkable

from torch import Tensor

from training.data import Interactions

QUANTILES = (0.1, 0.5, 0.9)
"""What `quantiles_s` gives, in this order."""


@runtime_checkable
class Head(Protocol):
    """A module from an encoder's state to seconds. Every head is an `nn.Module`.

    A prediction depends on its own row alone, so a request of one candidate and one of a thousand agree.
    Durations are known and above 0: whoever calls has filled in the unknown ones.
    """

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        """Fit everything that is frozen afterwards (groups, anchors, scales) on the training rows alone.

        Raises:
            ValueError: if there are no rows.
        """
        ...

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        """Mean training loss of N ≥ 1 rows, a scalar.

        Raises:
            ValueError: if called before `fit_tables`.
        """
        ...

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        """Predicted watch time, `[..., D]` and `[...]` -> `[...]` seconds, finite and ≥ 0."""
        ...


class Prediction(NamedTuple):
    """Everything a head with a distribution says of a row; K anchors, or however it divides the ratios."""

    seconds: Tensor
    """`[...]` watch time, as `Head.seconds`"""
    weights: Tensor
    """`[..., K]` as `distribution`"""
    ratio: Tensor
    """`[..., K]` as `distribution`"""
    quantiles_s: Tensor
    """`[..., 3]` as `quantiles_s`"""


@runtime_checkable
class DistributionHead(Head, Protocol):
    """A head that also says how sure it is."""

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        """All of it at once, so that an exported graph computes what they share once: the served path."""
        ...

    def distribution(self, state_ND: Tensor, duration_N: Tensor) -> tuple[Tensor, Tensor]:
        """Weights `[..., K]`, each row summing to 1, and the watch ratios they belong to `[..., K]`,
        ascending in each row."""
        ...

    def quantiles_s(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        """`[..., 3]` seconds at `QUANTILES`, non-decreasing, finite and ≥ 0."""
        ...
