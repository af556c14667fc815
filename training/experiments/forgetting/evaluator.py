"""Figures of predicted long views on the test window."""

# Shape suffixes: V values, one of each test row.

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import numpy as np

from models.arrays import F64, I64
from training.evaluation.bootstrap import Measure
from training.experiments.forgetting.rows import LongViews

MODELS: Final = {"matrix_factorisation": "MF", "light_gcn": "LightGCN"}
"""By fit, the name in the table."""


class LongViewEvaluator:
    """Predictions of long views on the test window.

    Args:
        views: the log.
    """

    def __init__(self, views: LongViews) -> None:
        self.views, self.data = views, views.data

    @cached_property
    def label(self) -> I64:
        """`[V]` 1 for a long view."""
        return (self.views.test.sign > 0).numpy().astype(np.int64)

    @property
    def users(self) -> I64:
        """`[V]`"""
        users: I64 = self.views.test.user.numpy()
        return users

    @property
    def measures(self) -> Mapping[str, Measure]:
        """AUC of each model, as the mean over the long views of the share of other rows below."""
        weight = self.label.astype(np.float64)
        return {f"auc/{fit}": Measure(fit, weight) for fit in MODELS}

    def values(self, score: F64) -> F64:
        """Return of each long view the share of the other rows that score less, ties half; NaN elsewhere."""
        others = np.sort(score[self.label == 0])
        below = np.searchsorted(others, score, "left") + np.searchsorted(others, score, "right")
        return np.where(self.label > 0, below / (2 * len(others)), np.nan)

    def describe_window(self, rows: I64) -> dict[str, Any]:
        """Return nothing: the rows of users and videos without enough of them are counted, too."""
        return {}
