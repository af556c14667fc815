"""A label maker as a picture: its label over watch time and duration."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from models.arrays import F32
from models.features import FEEDBACK_COLUMNS, GROUP_COLUMNS
from models.vocabulary import UNKNOWN
from training.data import Interactions
from training.labels import LabelMaker

# Shape suffixes: W watch times, D durations.

POINTS: Final = 41
"""Watch times and durations that are asked for, evenly spaced between 0 and the longest shown."""
SHOWN: Final = 0.95
"""The quantile of the log at which the picture ends: beyond it hardly any row lies."""
_LIKE: Final = FEEDBACK_COLUMNS.index("like")


def surface(maker: LabelMaker, known: Interactions) -> dict[str, Any]:
    """`{"watch_time_s": [W], "duration_s": [D], "plain": [W][D], "liked": [W][D]}`, labels with 3 digits.

    `liked` is the label of the same watch with explicit feedback, and left out where that changes nothing.
    Makers that know groups of users or videos are asked for one of no known group.
    """
    longest = np.quantile(known.duration_s, SHOWN), np.quantile(known.watch_time_s, SHOWN)
    duration_D = np.linspace(1.0, max(float(longest[0]), 2.0), POINTS)
    watch_W = np.linspace(0.0, max(float(longest[1]), 1.0), POINTS)
    feedback = np.zeros((POINTS * POINTS, len(FEEDBACK_COLUMNS)), np.float32)
    feedback[:, FEEDBACK_COLUMNS.index("watch_time_s")] = np.repeat(watch_W, POINTS)
    feedback[:, FEEDBACK_COLUMNS.index("duration_s")] = np.tile(duration_D, POINTS)
    plain = _labels(maker, feedback)
    feedback[:, _LIKE] = 1.0
    liked = _labels(maker, feedback)
    found = {"watch_time_s": watch_W.round(2).tolist(), "duration_s": duration_D.round(2).tolist()}
    found["plain"] = plain.tolist()
    if (plain != liked).any():
        found["liked"] = liked.tolist()
    return found


def _labels(maker: LabelMaker, feedback: F32) -> F32:
    """`[W, D]`"""
    nobody_NG = torch.full((len(feedback), len(GROUP_COLUMNS)), UNKNOWN)
    with torch.no_grad():
        label_N = maker(torch.from_numpy(feedback), nobody_NG)
    out: F32 = label_N.numpy().reshape(POINTS, POINTS).round(3)
    return out
