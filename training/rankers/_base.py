"""What every ranker is: an encoder and heads, and the outputs that are served."""

# Shape suffixes: B users, N candidates, R = B·N, K anchors, T objectives.

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.encoders import FeedbackEncoder, RankerInputs
from training.labels import Scale
from training.watch_time import Head, Prediction

WATCH_TIME = "watch_time"
INTEREST = "interest"


class RankerOutputs(NamedTuple):
    """What every ranker serves, named and ordered as the first outputs of `ranker.onnx`."""

    watch_time_s: Tensor
    """`[B, N]` seconds: the point prediction, about the median"""
    watch_ratio: Tensor
    """`[B, N]` the same over the duration"""
    objectives: Tensor
    """`[B, N, T]` in [0, 1], columns as `Ranker.objectives`: `scale(watch_time_s)` of LabelCraft, its label
    predicted, and the probabilities of what else may happen"""
    anchor_weights: Tensor
    """`[B, N, K]` weight of each label-distribution anchor; sums to 1"""
    anchor_ratio: Tensor
    """`[B, N, K]` the watch ratio each anchor stands for, ascending"""
    quantiles_s: Tensor
    """`[B, N, 3]` p10, p50 and p90 of watch time in seconds"""
    expected_watch_time_s: Tensor
    """`[B, N]` mean watch time in seconds, of the same law as the quantiles"""
    expected_watch_time: Tensor
    """`[B, N]` in [0, 1]: `scale(expected_watch_time_s)`"""
    states: Tensor
    """`[B, N, 3]` P(skip), P(complete) and P(replay) of the same law"""


class Ranker(nn.Module):
    """Encoder plus heads: watch time and objectives per candidate; `ranker.onnx` is exported from it.

    Args:
        encoder: inputs -> states.
        head: state -> watch time. To be served it needs a distribution (`DistributionHead`); any other can be
            fitted and evaluated beside it.
        scale: seconds -> [0, 1], fitted on train.
        objectives: what the score is fused from. To be served, watch time comes first.
    """

    def __init__(
        self, encoder: FeedbackEncoder, head: Head, scale: Scale, objectives: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.scale = scale
        self.objectives = objectives

    def appeal(self, x: RankerInputs) -> Tensor:
        """Return what a candidate is ordered by, `[B, N, T]`, more is better for it: log(1 + seconds) and the
        logits, those of skip and hate negated."""
        raise TypeError(f"{type(self).__name__} orders no candidates.")

    def serve(self, x: RankerInputs) -> RankerOutputs:
        """Run the served path."""
        raise TypeError(f"{type(self).__name__} has no served path.")

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
        history_ids: Tensor | None = None,
        history_feedback: Tensor | None = None,
        candidate_numbers: Tensor | None = None,
        candidate_categories: Tensor | None = None,
    ) -> RankerOutputs:
        """Run the served path; arguments as in `RankerInputs`. A graph is exported without those that its
        encoder does not read."""
        return self.serve(
            RankerInputs(
                sequence_ids,
                sequence_feedback,
                sequence_age_s,
                candidate_ids,
                candidate_duration_s,
                context_ids,
                profile,
                profile_ids,
                sequence_ids[:, :0, 0] if history_ids is None else history_ids,
                sequence_feedback[:, :0, :2] if history_feedback is None else history_feedback,
                candidate_duration_s[..., None][..., :0] if candidate_numbers is None else candidate_numbers,
                candidate_ids[..., :0] if candidate_categories is None else candidate_categories,
            )
        )

    def served(self, watch_time: Prediction, duration_BN: Tensor, probability_RT: Tensor) -> RankerOutputs:
        """Return the outputs that follow from predictions of rows.

        Args:
            watch_time: of R = B·N rows.
            duration_BN: seconds.
            probability_RT: of the objectives besides watch time.
        """
        objectives_RT = torch.cat([self.scale(watch_time.seconds)[:, None], probability_RT], dim=1)
        rows = RankerOutputs(
            watch_time_s=watch_time.seconds,
            watch_ratio=watch_time.seconds / duration_BN.flatten(),
            objectives=objectives_RT,
            anchor_weights=watch_time.weights,
            anchor_ratio=watch_time.ratio,
            quantiles_s=watch_time.quantiles_s,
            expected_watch_time_s=watch_time.mean_s,
            expected_watch_time=self.scale(watch_time.mean_s),
            states=watch_time.states,
        )
        return RankerOutputs(*(row.reshape(*duration_BN.shape, *row.shape[1:]) for row in rows))
