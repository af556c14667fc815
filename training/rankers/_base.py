"""What every ranker is: an encoder and heads, and the outputs that are served."""

# Shape suffixes: B users, N candidates, K anchors.

from __future__ import annotations

from typing import NamedTuple

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
    watch_time: Tensor
    """`[B, N]` the objective in [0, 1]: `scale(watch_time_s)` of LabelCraft"""
    interest: Tensor
    """`[B, N]` the objective in [0, 1]: LabelCraft's label, predicted"""
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
        objectives: the outputs that the score is fused from.
    """

    outputs: tuple[str, ...] = RankerOutputs._fields
    """Names of what `forward` returns, in its order."""

    def __init__(
        self, encoder: FeedbackEncoder, head: Head, scale: Scale, objectives: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.scale = scale
        self.objectives = objectives

    def serve(self, x: RankerInputs) -> tuple[Tensor, ...]:
        """Return the tensors named by `outputs`."""
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
    ) -> tuple[Tensor, ...]:
        """Return the tensors named by `outputs`; arguments as in `RankerInputs`. A graph whose encoder reads
        no history is exported without the last two."""
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
            )
        )

    def served(self, watch_time: Prediction, duration: Tensor, interest: Tensor) -> RankerOutputs:
        """Return the outputs that follow from a prediction of watch time and an interest, of any shape."""
        return RankerOutputs(
            watch_time_s=watch_time.seconds,
            watch_ratio=watch_time.seconds / duration,
            watch_time=self.scale(watch_time.seconds),
            interest=interest,
            anchor_weights=watch_time.weights,
            anchor_ratio=watch_time.ratio,
            quantiles_s=watch_time.quantiles_s,
            expected_watch_time_s=watch_time.mean_s,
            expected_watch_time=self.scale(watch_time.mean_s),
            states=watch_time.states,
        )
