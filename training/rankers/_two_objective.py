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
        state_BND, duration_BN = self.encoder(x, statistics_BNS)
        state_RD = state_BND.flatten(0, 1)
        watch = self.head.loss(state_RD, duration_BN.flatten(), watch_time_BN.flatten())
        interest = F.binary_cross_entropy_with_logits(
            self._logit(state_BND, self.encoder.dislikes(x))[..., 0], label_BN
        )
        return watch, interest

    def appeal(self, x: RankerInputs, statistics_BNS: Tensor | None = None) -> Tensor:
        state_BND, duration_BN = self.encoder(x, statistics_BNS)
        log_s_BN = torch.log1p(self.head.seconds(state_BND, duration_BN))
        return torch.cat([log_s_BN[..., None], self._logit(state_BND, self.encoder.dislikes(x))], dim=-1)

    def seconds(self, x: RankerInputs) -> Tensor:
        """Return the `[B, N]` predicted watch time, whatever the head."""
        state_BND, duration_BN = self.encoder(x)
        seconds_BN = self.head.seconds(state_BND, duration_BN)
        return seconds_BN * self.aversion.kept(self.encoder.dislikes(x)).reshape(seconds_BN.shape)

    def serve(self, x: RankerInputs) -> RankerOutputs:
        """Run the served path: no transport, no VQ encoder, no batch statistics."""
        state_RD, duration_BN, dislike_R3 = self.encoder.rows(x)
        found = cast(DistributionHead, self.head).predict(state_RD, duration_BN.flatten())
        probability_R1 = torch.sigmoid(self._logit(state_RD, dislike_R3))
        return self.served(found.cut(self.aversion.kept(dislike_R3)), duration_BN, probability_R1)

    def _logit(self, state_D: Tensor, dislike_R3: Tensor) -> Tensor:
        logit_1: Tensor = self.interest(state_D)
        return logit_1 + self.aversion.shift(dislike_R3).reshape(logit_1.shape)
