"""A label over watch time and duration, for a picture of its label maker."""

# Shape suffixes: N rows, W watch times, D durations.

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from models.features import FEEDBACK_COLUMNS, GROUP_COLUMNS
from models.vocabulary import UNKNOWN
from training.data import Interactions
from training.labels import LabelMaker

SURFACE_POINTS: Final = 41
"""Watch times and durations of a label's surface, evenly spaced."""
SURFACE_QUANTILE: Final = 0.95
"""The quantile of the log at which a surface ends: hardly any row is beyond it."""


def label_surface(maker: LabelMaker, log: Interactions) -> dict[str, Any]:
    """Return a label over watch time and duration, with 3 digits.

    Makers that compare within groups of users or videos get one of no known group.

    Args:
        maker: fitted.
        log: whose durations and watch times decide how far the surface reaches.

    Returns:
        `{"watch_time_s": [W], "duration_s": [D], "plain": [W][D], "liked": [W][D]}`; `liked` is the label of
        the same exposure with a like, and is missing where that changes nothing.
    """
    longest_s = float(np.quantile(log.duration_s, SURFACE_QUANTILE))
    most_s = float(np.quantile(log.watch_time_s, SURFACE_QUANTILE))
    duration_D = np.linspace(1.0, max(longest_s, 2.0), SURFACE_POINTS)
    watch_time_W = np.linspace(0.0, max(most_s, 1.0), SURFACE_POINTS)
    feedback = np.zeros((SURFACE_POINTS**2, log.feedback.shape[1]), np.float32)
    feedback[:, FEEDBACK_COLUMNS.index("watch_time_s")] = np.repeat(watch_time_W, SURFACE_POINTS)
    feedback[:, FEEDBACK_COLUMNS.index("duration_s")] = np.tile(duration_D, SURFACE_POINTS)
    groups = torch.full((len(feedback), len(GROUP_COLUMNS)), UNKNOWN)
    labels = []
    for like in (0.0, 1.0):
        feedback[:, FEEDBACK_COLUMNS.index("like")] = like
        with torch.no_grad():
            label_N = maker(torch.from_numpy(feedback), groups).numpy()
        labels.append(label_N.reshape(SURFACE_POINTS, SURFACE_POINTS).round(3))
    plain_WD, liked_WD = labels
    liked = {"liked": liked_WD.tolist()} if (plain_WD != liked_WD).any() else {}
    axes = {"watch_time_s": watch_time_W.round(2).tolist(), "duration_s": duration_D.round(2).tolist()}
    return {**axes, "plain": plain_WD.tolist(), **liked}
