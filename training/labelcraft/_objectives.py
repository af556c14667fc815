"""What the platform wants from a slate, as functions of soft top-k weights on held-out exposures.

An objective is any function of this shape; `OBJECTIVES` names LabelCraft's three, and a caller may pass a
mapping of its own.
"""

# Shape suffixes: U users, C candidates (padded), F feedback columns.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arrays import I64
from models.features import SEQUENCE_ID_COLUMNS
from training.data import Interactions, returned_next_day
from training.encoders import Slates
from training.labels import Scale, duration_s, explicit, hated, watch_time_s

_SKIP_S = 3.0
_LEAST_LOG = 0.1  # of users who watched nothing
_FLAT = 1e-8  # a variance (of values in [0, 1]) below which the spread counts as 0


class Candidates(NamedTuple):
    """What is known about the held-out exposures of U users. Padding has weight 0 and is never read."""

    watch_time: Tensor
    """`[U, C]` scale(w), in [0, 1]"""
    duration: Tensor
    """`[U, C]` scale(d), in [0, 1]"""
    explicit: Tensor
    """`[U, C]` 1.0 where the user gave any explicit feedback"""
    author: Tensor
    """`[U, C]` row of the video's author in the vocabulary"""
    feedback: Tensor
    """`[U, C, F]` raw, columns of `models.features.FEEDBACK_COLUMNS`: for custom objectives"""
    returned: Tensor
    """`[U, C]` 1.0 where the user was back on the next day, 0.0 where not, NaN where that is not known"""
    mask: Tensor
    """`[U, C]` true where there is a candidate"""


def candidates_of(
    log: Interactions,
    slates: Slates,
    watch_scale: Scale,
    duration_scale: Scale,
    day: I64 | None = None,
) -> Candidates:
    """Return what is known about the exposures of some users.

    Args:
        log: the exposures.
        slates: the rows of each user.
        watch_scale, duration_scale: fitted on the rows that are learned from.
        day: of each row of the log; without it no return is known.
    """
    feedback_UCF = torch.from_numpy(log.feedback[slates.rows])
    returned_N = np.full(len(log), np.nan, np.float32) if day is None else returned_next_day(log.user, day)
    return Candidates(
        watch_time=watch_scale(watch_time_s(feedback_UCF)),
        duration=duration_scale(duration_s(feedback_UCF)),
        explicit=explicit(feedback_UCF),
        author=torch.from_numpy(log.ids[slates.rows, SEQUENCE_ID_COLUMNS.index("author_id")]),
        feedback=feedback_UCF,
        returned=torch.from_numpy(returned_N[slates.rows]),
        mask=slates.mask,
    )


Objective = Callable[[Tensor, Candidates], Tensor]
"""`(slate_weight_UC, candidates) -> [U]`, larger is better. `slate_weight_UC` = α/k ≥ 0, sums to 1 a user."""


def usage_time(slate_weight_UC: Tensor, candidates: Candidates) -> Tensor:
    """Return `[U]` M1 = Σ (α/k) scale(w): time spent on the slate."""
    return (slate_weight_UC * candidates.watch_time).sum(-1)


def engagement(slate_weight_UC: Tensor, candidates: Candidates) -> Tensor:
    """Return `[U]` M2 = Σ (α/k) δ(Σ y_e): the share of the slate that got explicit feedback."""
    return (slate_weight_UC * candidates.explicit).sum(-1)


def duration_spread(slate_weight_UC: Tensor, candidates: Candidates) -> Tensor:
    """Return `[U]` M3 = (Σ (α/k) (scale(d) - E)²)^½ with E = Σ (α/k) scale(d): spread of the durations.

    The paper takes it for retention. Poster and slides print the exponent as -½, text and metric say that
    larger is better: +½. The released code takes the standard deviation of α·scale(d) over all candidates,
    which rewards long videos rather than different ones; this is the weighted deviation of the formula.

    The root has an infinite slope at 0: a slate of one duration gets 0 with gradient 0.
    """
    mean_U1 = (slate_weight_UC * candidates.duration).sum(-1, keepdim=True)
    variance_U = (slate_weight_UC * (candidates.duration - mean_U1) ** 2).sum(-1)
    spread = variance_U > _FLAT
    # Both branches of `where` are differentiated: the root must not see the flat ones.
    return torch.where(spread, torch.where(spread, variance_U, 1.0).sqrt(), 0.0)


def relative_usage(slate_weight_UC: Tensor, candidates: Candidates) -> Tensor:
    """Return `[U]` Σ (α/k) log(1 + w) / max_x log(1 + w): usage beside the user's longest watch, concave.

    Users who watch much count as much as others, and a minute more of a long video less than the first.
    """
    log_UC = torch.log1p(watch_time_s(candidates.feedback)) * candidates.mask
    return (slate_weight_UC * log_UC).sum(-1) / log_UC.amax(-1).clamp_min(_LEAST_LOG)


def net_feedback(slate_weight_UC: Tensor, candidates: Candidates) -> Tensor:
    """Return `[U]` Σ (α/k) (δ(Σ y_e) - y_hate): explicit feedback less hates."""
    return (slate_weight_UC * (candidates.explicit - hated(candidates.feedback))).sum(-1)


def next_day_return(slate_weight_UC: Tensor, candidates: Candidates) -> Tensor:
    """Return `[U]` Σ (α/k) r less the mean of r: how much more often users were back the day after exposures
    of the slate than after all that they had.

    Users who come every day, or never again, gain nothing by any slate: only days of one user that differ in
    what followed them say something of the exposures. Where r is unknown, the gain is 0.
    """
    known_UC = candidates.mask & ~candidates.returned.isnan()
    returned_UC = candidates.returned.where(known_UC, 0.0)
    mean_U1 = returned_UC.sum(-1, keepdim=True) / known_UC.sum(-1, keepdim=True).clamp_min(1)
    return (slate_weight_UC * (returned_UC - mean_U1).where(known_UC, 0.0)).sum(-1)


def no_skips(slate_weight_UC: Tensor, candidates: Candidates) -> Tensor:
    """Return `[U]` -Σ (α/k) 1[w < min(3 s, d)]: minus the slate's share of KuaiRand's skips."""
    watched, duration = watch_time_s(candidates.feedback), duration_s(candidates.feedback)
    return -(slate_weight_UC * (watched < duration.clamp(max=_SKIP_S))).sum(-1)


def author_diversity(slate_weight_UC: Tensor, candidates: Candidates) -> Tensor:
    """Return `[U]` 1 - Σ_a (Σ_{x of a} α/k)²: how probably two positions show different authors."""
    same_UCC = (candidates.author[:, :, None] == candidates.author[:, None, :]).to(slate_weight_UC.dtype)
    return 1.0 - torch.einsum("uc,ucd,ud->u", slate_weight_UC, same_UCC, slate_weight_UC)


OBJECTIVES: Final[Mapping[str, Objective]] = {
    "usage_time": usage_time,
    "engagement": engagement,
    "duration_spread": duration_spread,
}
"""LabelCraft's three, in the paper's order."""

RELATIVE_OBJECTIVES: Final[Mapping[str, Objective]] = {
    "relative_usage": relative_usage,
    "net_feedback": net_feedback,
    "duration_spread": duration_spread,
}
"""Usage beside the user's own, so that a long watch does not outweigh all else, and a hate worth less than a
skip."""
