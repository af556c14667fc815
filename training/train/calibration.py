"""Calibrate the probabilities of a fitted ranker of many objectives on rows held out."""

from __future__ import annotations

import numpy as np

from models.arrays import F32, I64
from training.data import Interactions
from training.evaluation.predict import predict_objectives
from training.rankers import MultiObjectiveRanker
from training.train.rankers import targets


def calibrate(
    ranker: MultiObjectiveRanker, log: Interactions, rows: I64, length: int, label: F32 | None = None
) -> None:
    """Fit the lines of calibration on rows that the ranker was not fitted on.

    Args:
        ranker: fitted. Lines that it had are replaced.
        log: every exposure.
        rows: `[R]` held out.
        length: most steps of a sequence.
        label: as in `fit_objectives`.
    """
    ranker.platt.slope.fill_(1.0)
    ranker.platt.shift.zero_()
    probability = predict_objectives(ranker, log, rows, length).probability.astype(np.float64)
    probability = np.clip(probability, 1e-9, 1 - 1e-7)
    logit = np.log(probability) - np.log1p(-probability)
    ranker.platt.fit(logit.astype(np.float32), targets(ranker, log, rows, label))
