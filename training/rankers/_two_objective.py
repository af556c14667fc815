"""The network that `ranker.onnx` is exported from: one encoder, a watch-time head, an interest head."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.encoders import FeedbackEncoder, RankerInputs
from training.labels import Scale
from training.watch_time import DistributionHead, Head, Prediction

# Shape suffixes: B users, N candidates, R rows (B·N), S statistics of a candidate, D state width, K anchors.


class RankerOutputs(NamedTuple):
    """Named and ordered as the outputs of `ranker.onnx`."""

    watch_time_s: Tensor
    """`[B, N]` seconds"""
    watch_ratio: Tensor
    """`[B, N]` the same over the duration"""
    watch_time: Tensor
    """`[B, N]` the objective in [0, 1]: `scale(watch_time_s)` of LabelCraft"""
    interest: Tensor
    """`[B, N]` the objective in [0, 1]: the label that the labeler would give"""
    anchor_weights: Tensor
    """`[B, N, K]` weight of each label-distribution anchor; sums to 1"""
    anchor_ratio: Tensor
    """`[B, N, K]` the watch ratio each anchor stands for, ascending"""
    quantiles_s: Tensor
    """`[B, N, 3]` p10, p50 and p90 of watch time in seconds"""


OBJECTIVES = ("watch_time", "interest")
"""The outputs that the score is fused from."""


class Ranker(nn.Module):
    """Encoder, watch-time head and interest head.

    Args:
        encoder: inputs -> states.
        head: state -> watch time. To be served it needs a distribution (`DistributionHead`); any other can be
            fitted and judged beside it.
        scale: seconds -> [0, 1], fitted on train.
    """

    outputs: tuple[str, ...] = RankerOutputs._fields
    """Names of what `forward` returns, in its order."""
    objectives: tuple[str, ...] = OBJECTIVES
    """Those of them that the score is fused from."""

    def __init__(self, encoder: FeedbackEncoder, head: Head, scale: Scale) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.scale = scale
        self.interest = nn.Linear(encoder.config.width, 1)

    def loss(
        self, x: RankerInputs, statistics_BNS: Tensor, watch_time_BN: Tensor, label_BN: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both losses on rows with a known outcome.

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
        """`[B, N]` predicted watch time, of any head."""
        state_BND, duration_BN = self.encoder(x)
        return self.head.seconds(state_BND, duration_BN)

    def forward(
        self,
        sequence_ids: Tensor,
        sequence_feedback: Tensor,
        sequence_age_s: Tensor,
        candidate_ids: Tensor,
        candidate_duration_s: Tensor,
        context_ids: Tensor,
        profile: Tensor,
        profile_ids: Tensor,
    ) -> RankerOutputs:
        """The served path; arguments as in `RankerInputs`. No OT, no VQ encoder, no batch statistics."""
        state_RD, duration_BN = self.encoder.rows(
            RankerInputs(
                sequence_ids,
                sequence_feedback,
                sequence_age_s,
                candidate_ids,
                candidate_duration_s,
                context_ids,
                profile,
                profile_ids,
            )
        )
        duration_R = duration_BN.flatten()
        found = cast(DistributionHead, self.head).predict(state_RD, duration_R)
        interest_R = torch.sigmoid(self.interest(state_RD)[..., 0])
        rows = ranker_outputs(found, duration_R, self.scale, interest_R)
        return RankerOutputs(*(row.reshape(*duration_BN.shape, *row.shape[1:]) for row in rows))


def ranker_outputs(
    found: Prediction, duration_BN: Tensor, scale: Scale, interest_BN: Tensor
) -> RankerOutputs:
    """What every ranker answers of a watch-time head's prediction and an interest; of rows, or `[B, N]`."""
    return RankerOutputs(
        watch_time_s=found.seconds,
        watch_ratio=found.seconds / duration_BN,
        watch_time=scale(found.seconds),
        interest=interest_BN,
        anchor_weights=found.weights,
        anchor_ratio=found.ratio,
        quantiles_s=found.quantiles_s,
    )
