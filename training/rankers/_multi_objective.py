"""The ranker of many objectives: one encoder, a watch-time head, a logit for every other objective."""

# Shape suffixes: B users, N candidates, R = B·N, S statistics of a candidate, D state width, T objectives.

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.encoders import FeedbackEncoder, RankerInputs
from training.labels import Scale
from training.rankers._aversion import Aversion
from training.rankers._base import INTEREST, WATCH_TIME, Ranker, RankerOutputs
from training.rankers._calibration import Platt
from training.rankers._outcomes import OUTCOMES, outcomes_with
from training.watch_time import DistributionHead, Head

NAMES = tuple(outcome.name for outcome in OUTCOMES)


class Losses(NamedTuple):
    """The losses of one batch."""

    each: list[Tensor]
    """A scalar for each objective."""
    shared: Tensor
    """`[B·N, D]` the last thing that all of them read: the encoder's state."""


class Estimates(NamedTuple):
    """What is predicted, without the outputs that a bundle derives from it."""

    seconds: Tensor | None
    """`[B, N]` watch time; `None` where it is no objective."""
    probability: Tensor
    """`[B, N, T]` of the objectives besides watch time, as they come in `MultiObjectiveRanker.likely`."""


class MultiObjectiveRanker(Ranker):
    """Encoder, watch-time head, and a probability for every other objective, all from one state.

        p_t = σ( s_t (w_t · state + b_t ∓ B_t · u) + c_t )      u: see `Aversion`
                                                                s_t, c_t: calibration, fitted on other rows

    Args:
        encoder: inputs -> states.
        head: state -> watch time; see `Ranker`.
        scale: seconds -> [0, 1], fitted on train.
        objectives: which of `watch_time`, `interest`, the names of `OUTCOMES` and the encoder's signals; by
            default all but signals. A bundle needs the first two.
    """

    def __init__(
        self,
        encoder: FeedbackEncoder,
        head: Head,
        scale: Scale,
        objectives: Sequence[str] = (WATCH_TIME, INTEREST, *NAMES),
    ) -> None:
        super().__init__(encoder, head, scale, tuple(objectives))
        self.likely = tuple(name for name in self.objectives if name != WATCH_TIME)
        """The objectives with a probability."""
        # At least one, for a ranker of watch time alone would warn of a layer that is empty.
        self.logit = nn.Linear(encoder.config.width, max(1, len(self.likely)))
        self.platt = Platt(len(self.likely))
        sides = {outcome.name: outcome.side for outcome in outcomes_with(encoder.signals)}
        self.aversion = Aversion([sides.get(name, "positive") for name in self.likely])

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
        state_RD, duration_BN, dislike_R3 = self.encoder.rows(x, statistics_BNS)
        logit_BNT = self.logits(state_RD, dislike_R3).reshape(target_BNT.shape)
        each = []
        for name in self.objectives:
            if name == WATCH_TIME:
                each.append(self.head.loss(state_RD, duration_BN.flatten(), watch_time_BN.flatten()))
            else:
                at = self.likely.index(name)
                each.append(F.binary_cross_entropy_with_logits(logit_BNT[..., at], target_BNT[..., at]))
        return Losses(each, state_RD)

    def appeal(self, x: RankerInputs) -> Tensor:
        state_RD, duration_BN, dislike_R3 = self.encoder.rows(x)
        found_RT = self.logits(state_RD, dislike_R3) * -self.aversion.sign
        if WATCH_TIME in self.objectives:
            log_s_R = torch.log1p(self.head.seconds(state_RD, duration_BN.flatten()))
            found_RT = torch.cat([log_s_R[:, None], found_RT], dim=1)
        return found_RT.reshape(*duration_BN.shape, found_RT.shape[1])

    def predict(self, x: RankerInputs) -> Estimates:
        """Return calibrated predictions, whatever the head."""
        state_RD, duration_BN, dislike_R3 = self.encoder.rows(x)
        seconds = None
        if WATCH_TIME in self.objectives:
            seconds_R = self.head.seconds(state_RD, duration_BN.flatten())
            seconds = (seconds_R * self.aversion.watch_share(dislike_R3)).reshape(duration_BN.shape)
        probability_RT = torch.sigmoid(self.platt(self.logits(state_RD, dislike_R3)))
        return Estimates(seconds, probability_RT.reshape(*duration_BN.shape, len(self.likely)))

    def serve(self, x: RankerInputs) -> RankerOutputs:
        """Run the served path: no transport, no VQ encoder, no batch statistics."""
        state_RD, duration_BN, dislike_R3 = self.encoder.rows(x)
        found = cast(DistributionHead, self.head).predict(state_RD, duration_BN.flatten())
        probability_RT = torch.sigmoid(self.platt(self.logits(state_RD, dislike_R3)))
        return self.served(found.cut(self.aversion.watch_share(dislike_R3)), duration_BN, probability_RT)

    def logits(self, state_RD: Tensor, dislike_R3: Tensor) -> Tensor:
        """Return the logits before calibration, `[R, D]` -> `[R, T]`, columns as `likely`."""
        logit_RT: Tensor = self.logit(state_RD)[:, : len(self.likely)]
        return logit_RT + self.aversion.shift(dislike_R3)
