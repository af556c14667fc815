"""The ranker of watch time and interest: one encoder, two heads."""

# Shape suffixes: B users, N candidates, R rows (B·N), S statistics of a candidate, D state width.

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.encoders import FeedbackEncoder, RankerInputs
from training.labels import Scale
from training.rankers._base import INTEREST, WATCH_TIME, Ranker, RankerOutputs
from training.watch_time import DistributionHead, Head


class TwoObjectiveRanker(Ranker):
    """Encoder, watch-time head and a linear interest head. Arguments as for `Ranker`."""

    def __init__(self, encoder: FeedbackEncoder, head: Head, scale: Scale) -> None:
        super().__init__(encoder, head, scale, (WATCH_TIME, INTEREST))
        self.interest = nn.Linear(encoder.config.width, 1)

    def loss(
        self, x: RankerInputs, statistics_BNS: Tensor, watch_time_BN: Tensor, label_BN: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return both losses of rows with a known outcome.

        Args:
            x: inputs with known durations.
            statistics_BNS: what each row may see of its video's statistics.
            watch_time_BN: seconds watched.
            label_BN: LabelCraft's label in [0, 1], a constant here: the label maker is trained already, so
                the labels are decoupled from this network (the paper's future work).

        Returns:
            The head's loss, and the binary cross-entropy of interest against the soft label.
        """
        state_BND, duration_BN = self.encoder(x, statistics_BNS)
        state_RD = state_BND.flatten(0, 1)
        watch = self.head.loss(state_RD, duration_BN.flatten(), watch_time_BN.flatten())
        interest = F.binary_cross_entropy_with_logits(self.interest(state_BND)[..., 0], label_BN)
        return watch, interest

    def seconds(self, x: RankerInputs) -> Tensor:
        """Return the `[B, N]` predicted watch time, whatever the head."""
        state_BND, duration_BN = self.encoder(x)
        return self.head.seconds(state_BND, duration_BN)

    def serve(self, x: RankerInputs) -> RankerOutputs:
        """Run the served path: no transport, no VQ encoder, no batch statistics."""
        state_RD, duration_BN = self.encoder.rows(x)
        duration_R = duration_BN.flatten()
        found = cast(DistributionHead, self.head).predict(state_RD, duration_R)
        interest_R = torch.sigmoid(self.interest(state_RD)[..., 0])
        rows = self.served(found, duration_R, interest_R)
        return RankerOutputs(*(row.reshape(*duration_BN.shape, *row.shape[1:]) for row in rows))
