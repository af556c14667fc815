"""LabelCraft with the inner problem solved exactly, so that its outer gradient is exact, too.

One step of SGD is a poor look-ahead: labels learned through it stay near their start and lean to long videos.
A ridge regression on what was known the day before is solved in closed form, and its scores are linear in the
labels. With labels that are linear in a table c, the scores of held-out users are linear in the table:

    s = S c,      S = Z_test (Z'Z + λI)⁻¹ Z' B

    1  Z    what was known of user, video, author and tag when a row was shown       _lagged_features.py
    2  c    labels: a table over watch time, duration and kind of feedback           _surface.py
    3  S    the recommender trained on any labels of that form, a window at a time   _ridge.py
    4  max_c Σ_i M_i(soft top-k(S c)) / σ_i, a full step at a time                   _learn.py
    5  the mean of c over draws of the held-out users                                _drawn_users.py
    6  likes above hates, where rows of both are given, beside the objectives        _likes_above_hates.py

`learn_labels` does it all.

Source: Bai et al., "LabelCraft", WSDM 2024, for the two levels, the objectives (`objectives="paper"`) and the
soft top-k. Ours: the closed form, the table instead of a network, the objectives relative to the user, their
division by deviations instead of dynamic balancing, and the mean over draws of the users.
"""

from training.labelcraft.closed_form._config import ClosedFormConfig, Gradient
from training.labelcraft.closed_form._lagged_features import (
    VIDEO_FEEDBACK,
    VIDEO_WATCH_TIME,
    knows_duration,
    lagged_features,
    with_products,
)
from training.labelcraft.closed_form._learn import (
    Composite,
    LearnedSurface,
    learn_labels,
    learn_surface,
    objectives_of,
)
from training.labelcraft.closed_form._ridge import NormalEquations, RidgeWindow, first_days, ridge_windows
from training.labelcraft.closed_form._surface import LabelSurface, Sheet

__all__ = [
    "VIDEO_FEEDBACK",
    "VIDEO_WATCH_TIME",
    "ClosedFormConfig",
    "Composite",
    "Gradient",
    "LabelSurface",
    "LearnedSurface",
    "NormalEquations",
    "RidgeWindow",
    "Sheet",
    "first_days",
    "knows_duration",
    "lagged_features",
    "learn_labels",
    "learn_surface",
    "objectives_of",
    "ridge_windows",
    "with_products",
]
