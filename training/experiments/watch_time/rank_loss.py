"""The rank loss beside any head's own loss: offered to all heads, or to none."""

# Shape suffixes: N exposures, D state.

from __future__ import annotations

from typing import Self, cast

from torch import Tensor, nn

from training.data import Interactions
from training.watch_time import DistributionHead, DistributionModule, Head, Prediction, RankLoss


class RankedHead(nn.Module):
    """A head whose loss is its own and a weighted `RankLoss` of its seconds.

    Args:
        head: the head.
        weight: of the rank loss.
    """

    def __init__(self, head: Head, weight: float) -> None:
        super().__init__()
        self.head, self.weight = head, weight
        self.rank_loss = RankLoss()

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        self.head.fit_tables(train, seed=seed)
        self.rank_loss.fit(train.watch_time_s)
        return self

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        order: Tensor = self.rank_loss(self.head.seconds(state_ND, duration_N), watch_time_N)
        return self.head.loss(state_ND, duration_N, watch_time_N) + self.weight * order

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        return self.head.seconds(state_ND, duration_N)


class RankedDistributionHead(RankedHead, DistributionModule):
    """The same of a head with a distribution."""

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        return cast(DistributionHead, self.head).predict(state_ND, duration_N)

    def crps_s(self, weight_NK: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        return cast(DistributionHead, self.head).crps_s(weight_NK, duration_N, watch_time_N)


def with_rank_loss(head: Head, weight: float) -> Head:
    """Return the head with a rank loss of this weight beside its own; 0 leaves it as it is."""
    if not weight:
        return head
    kind = RankedDistributionHead if isinstance(head, DistributionHead) else RankedHead
    return kind(head, weight)
