"""What the platform wants from a slate, as functions of SOFT top-k shares on held-out exposures.

An objective is any function of this shape; `OBJECTIVES` names LabelCraft's three, and a caller may pass a
mapping of its own.
"""

# Shape suffixes: U users, C candidates (padded), F feedback columns.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

from training.labels import duration_s, watch_time_s

_SKIP_S = 3.0
_FLAT = 1e-8  # a variance (of values in [0, 1]) below which the spread counts as 0


class Candidates(NamedTuple):
    """What is known about the held-out exposures of U users. Padding has share 0 and is never read."""

    watch_time: Tensor
    """`[U, C]` scale(w), in [0, 1]"""
    duration: Tensor
    """`[U, C]` scale(d), in [0, 1]"""
    explicit: Tensor
    """`[U, C]` 1.0 where the user gave any explicit feedback"""
    author: Tensor
    """`[U, C]` row of the video's author in the vocabulary"""
    feedback: Tensor
    """`[U, C, F]` raw, columns of `models.features.FEEDBACK_COLUMNS`: for objectives of one's own"""
    mask: Tensor
    """`[U, C]` true where there is a candidate"""


Objective = Callable[[Tensor, Candidates], Tensor]
"""`(place_UC, candidates) -> [U]`, larger is better. `place_UC` = α/k: non-negative, sums to 1 a user."""


def usage_time(place_UC: Tensor, of: Candidates) -> Tensor:
    """`[U]` M1 = Σ (α/k) scale(w): time spent on the slate."""
    return (place_UC * of.watch_time).sum(-1)


def engagement(place_UC: Tensor, of: Candidates) -> Tensor:
    """`[U]` M2 = Σ (α/k) δ(Σ y_e): the share of the slate that got explicit feedback."""
    return (place_UC * of.explicit).sum(-1)


def duration_spread(place_UC: Tensor, of: Candidates) -> Tensor:
    """`[U]` M3 = (Σ (α/k) (scale(d) - E)²)^½ with E = Σ (α/k) scale(d): spread of the slate's durations.

    The paper takes it for retention. Poster and slides print the exponent as -½, text and metric say that
    larger is better: +½. The released code takes the standard deviation of α·scale(d) over all candidates,
    which rewards long videos rather than different ones; this is the weighted deviation of the formula.

    The root has an infinite slope at 0: a slate of one duration gets 0 with gradient 0.
    """
    mean_U1 = (place_UC * of.duration).sum(-1, keepdim=True)
    variance_U = (place_UC * (of.duration - mean_U1) ** 2).sum(-1)
    spread = variance_U > _FLAT
    # Both branches of `where` are differentiated: the root must not see the flat ones.
    return torch.where(spread, torch.where(spread, variance_U, 1.0).sqrt(), 0.0)


def no_skips(place_UC: Tensor, of: Candidates) -> Tensor:
    """`[U]` -Σ (α/k) 1[w < min(3 s, d)]: minus the share of the slate that was skipped, KuaiRand's skip."""
    watched, duration = watch_time_s(of.feedback), duration_s(of.feedback)
    return -(place_UC * (watched < duration.clamp(max=_SKIP_S))).sum(-1)


def author_diversity(place_UC: Tensor, of: Candidates) -> Tensor:
    """`[U]` 1 - Σ_a (Σ_{x of a} α/k)²: the chance that two places of the slate show different authors."""
    same_UCC = (of.author[:, :, None] == of.author[:, None, :]).to(place_UC.dtype)
    return 1.0 - torch.einsum("uc,ucd,ud->u", place_UC, same_UCC, place_UC)


OBJECTIVES: Final[Mapping[str, Objective]] = {
    "usage_time": usage_time,
    "engagement": engagement,
    "duration_spread": duration_spread,
}
"""LabelCraft's three, in the paper's order."""
