"""The ranker of watch time and interest: one encoder, two heads."""

# Shape suffixes: B users, N candidates, R rows (B·N), S statistics of a candidate, D state width.

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.encoders import FeedbackEncoder, RankerInputs
from training.labels import Scale
from training.rankers._aversion import Aversion
from training.rankers._base import INTEREST, WATCH_TIME, Ranker, RankerOutputs
from training.watch_time import DistributionHead, Head


class TwoObjectiveRanker(Ranker):
    """Encoder, watch-time head and a linear interest head. Arguments as for `Ranker`."""

    def __init__(self, encoder: FeedbackEncoder, head: Head, scale: Scale) -> None:
        super().__init__(encoder, head, scale, (WATCH_TIME, INTEREST))
        self.interest = nn.Linear(encoder.config.width, 1)
        self.aversion = Aversion(["positive"])

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
        state_RD, duration_BN, dislike_R3 = self.encoder.rows(x, statistics_BNS)
        watch = self.head.loss(state_RD, duration_BN.flatten(), watch_time_BN.flatten())
        logit_R = self._logit(state_RD, dislike_R3)[:, 0]
        return watch, F.binary_cross_entropy_with_logits(logit_R, label_BN.flatten())

    def appeal(self, x: RankerInputs) -> Tensor:
        state_RD, duration_BN, dislike_R3 = self.encoder.rows(x)
        log_s_R = torch.log1p(self.head.seconds(state_RD, duration_BN.flatten()))
        found_R2 = torch.cat([log_s_R[:, None], self._logit(state_RD, dislike_R3)], dim=1)
        return found_R2.reshape(*duration_BN.shape, 2)

    def seconds(self, x: RankerInputs) -> Tensor:
        """Return the `[B, N]` predicted watch time, whatever the head."""
        state_RD, duration_BN, dislike_R3 = self.encoder.rows(x)
        seconds_R = self.head.seconds(state_RD, duration_BN.flatten())
        return (seconds_R * self.aversion.watch_share(dislike_R3)).reshape(duration_BN.shape)

    def serve(self, x: RankerInputs) -> RankerOutputs:
        """Run the served path: no transport, no VQ encoder, no batch statistics."""
        state_RD, duration_BN, dislike_R3 = self.encoder.rows(x)
        found = cast(DistributionHead, self.head).predict(state_RD, duration_BN.flatten())
        probability_R1 = torch.sigmoid(self._logit(state_RD, dislike_R3))
        return self.served(found.cut(self.aversion.watch_share(dislike_R3)), duration_BN, probability_R1)

    def _logit(self, state_RD: Tensor, dislike_R3: Tensor) -> Tensor:
        logit_R1: Tensor = self.interest(state_RD)
        return logit_R1 + self.aversion.shift(dislike_R3)
