"""The ranker of many objectives: one encoder, experts, a head for each."""

# Shape suffixes: B users, N candidates, R = B N, S statistics of a candidate, D state width, T objectives,
# E expert width.

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.encoders import FeedbackEncoder, RankerInputs
from training.labels import Scale
from training.rankers._base import INTEREST, WATCH_TIME, Ranker, RankerOutputs
from training.rankers._calibration import Platt
from training.rankers._experts import Experts, Mixture, ObjectivesConfig
from training.rankers._outcomes import OUTCOMES, Side
from training.watch_time import DistributionHead, Head

NAMES = tuple(outcome.name for outcome in OUTCOMES)
_SIDES: dict[str, Side] = {outcome.name: outcome.side for outcome in OUTCOMES}


class Losses(NamedTuple):
    """The losses of one batch."""

    each: list[Tensor]
    """A scalar for each objective."""
    shared: Tensor
    """`[B, N, D]` the last thing that all of them read: the encoder's state."""


class Estimates(NamedTuple):
    """What is predicted, without the outputs that a bundle derives from it."""

    seconds: Tensor | None
    """`[B, N]` watch time; `None` where it is no objective."""
    probability: Tensor
    """`[B, N, T]` of the objectives besides watch time, as they come in `MultiObjectiveRanker.likely`."""


class MultiObjectiveRanker(Ranker):
    """Encoder, experts, watch-time head, and a probability for every other objective.

    Args:
        encoder: inputs -> states.
        head: reads the experts' state (width `config.expert`) -> watch time; see `Ranker`.
        scale: seconds -> [0, 1], fitted on train.
        config: sizes of the experts.
        objectives: which of `watch_time`, `interest` and the names of `OUTCOMES`; by default all. A bundle
            needs the first two.
    """

    def __init__(
        self,
        encoder: FeedbackEncoder,
        head: Head,
        scale: Scale,
        config: ObjectivesConfig,
        objectives: Sequence[str] = (WATCH_TIME, INTEREST, *NAMES),
    ) -> None:
        super().__init__(encoder, head, scale, tuple(objectives))
        self.likely = tuple(name for name in self.objectives if name != WATCH_TIME)
        """The objectives with a probability."""
        sides: list[Side] = [_SIDES.get(name, "positive") for name in self.objectives]
        self.experts = Experts(encoder.config.width, sides, config)
        # At least one, for a ranker of watch time alone would warn of a layer that is empty.
        self.logit = nn.Linear(config.expert, max(1, len(self.likely)))
        self.platt = Platt(len(self.likely))
        own = [name for name in self.likely if name != INTEREST]
        self.outputs = (*RankerOutputs._fields, *own)
        """Names of what `forward` returns, in its order."""

    def start_at(self, rate_T: Tensor) -> None:
        """Start every probability at its share of the training rows.

        A rare objective would otherwise spend its first epoch on learning that it is rare, with the longest
        gradients of all."""
        self.logit.bias.data[: len(self.likely)] = torch.logit(rate_T.clamp(1e-6, 1 - 1e-6))

    def losses(
        self,
        x: RankerInputs,
        statistics_BNS: Tensor,
        watch_time_BN: Tensor,
        target_BNT: Tensor,
    ) -> Losses:
        """Return the losses of rows with a known outcome, in the order of `objectives`.

        Args:
            x: inputs with known durations.
            statistics_BNS: what each row may see of its video's statistics.
            watch_time_BN: seconds watched.
            target_BNT: in [0, 1], columns as `likely`: what happened, and LabelCraft's label for interest.

        Returns:
            The head's loss for watch time, binary cross-entropy for the others. Not calibrated: calibration
            is fitted afterwards, on other rows.
        """
        state_BND, duration_BN = self.encoder(x, statistics_BNS)
        mixture = self.experts(state_BND)
        logit_BNT = self._logits(mixture)
        each = []
        for t, name in enumerate(self.objectives):
            if name == WATCH_TIME:
                state_RE = mixture.state(t).flatten(0, 1)
                each.append(self.head.loss(state_RE, duration_BN.flatten(), watch_time_BN.flatten()))
            else:
                at = self.likely.index(name)
                each.append(F.binary_cross_entropy_with_logits(logit_BNT[..., at], target_BNT[..., at]))
        return Losses(each, state_BND)

    def predict(self, x: RankerInputs) -> Estimates:
        """Return calibrated predictions, whatever the head."""
        state_BND, duration_BN = self.encoder(x)
        mixture = self.experts(state_BND)
        seconds = None
        if WATCH_TIME in self.objectives:
            seconds = self.head.seconds(mixture.state(self.objectives.index(WATCH_TIME)), duration_BN)
        return Estimates(seconds, torch.sigmoid(self.platt(self._logits(mixture))))

    def _logits(self, mixture: Mixture) -> Tensor:
        """`[B, N, T]`, columns as `likely`."""
        if not self.likely:  # a ranker of watch time alone
            return mixture.gate[..., :0, 0]
        if WATCH_TIME not in self.objectives:
            return mixture.readout(self.logit.weight) + self.logit.bias
        # Watch time has a head for a readout: a row of zeros here keeps the experts in one piece.
        at = self.objectives.index(WATCH_TIME)
        weight = self.logit.weight
        all_TE = torch.cat([weight[:at], torch.zeros_like(weight[:1]), weight[at:]])
        logit_BNT = mixture.readout(all_TE)
        return torch.cat([logit_BNT[..., :at], logit_BNT[..., at + 1 :]], dim=-1) + self.logit.bias

    def serve(self, x: RankerInputs) -> tuple[Tensor, ...]:
        """Run the served path."""
        state_BND, duration_BN = self.encoder(x)
        mixture = self.experts(state_BND)
        watch_time = mixture.state(self.objectives.index(WATCH_TIME))
        found = cast(DistributionHead, self.head).predict(watch_time, duration_BN)
        probability_BNT = torch.sigmoid(self.platt(self._logits(mixture)))
        by_name = dict(zip(self.likely, probability_BNT.unbind(-1), strict=True))
        served = self.served(found, duration_BN, by_name[INTEREST])
        return (*served, *(by_name[name] for name in self.outputs[len(served) :]))
