"""Calibration of predicted probabilities."""

from __future__ import annotations

import numpy as np

from models.metrics._rows import Column, numbers


def ece(label: Column, probability: Column, bins: int = 15) -> float | None:
    """Compute the expected calibration error: the distance of predicted probabilities from shares of
    positives.

        ECE = Σ_b n_b / N |mean probability in b - share of positives in b|

    Bins hold equally many rows, in the order of the probability; equal probabilities may be split between
    two bins. Bins of equal width would put nearly every row of a rare outcome into the first one.

    Args:
        label: `[N]`; above 0 is positive.
        probability: `[N]` in [0, 1].
        bins: at most so many.

    Returns:
        A number in [0, 1]; `None` for N = 0.

    Raises:
        BadInput: a value is not finite.

    Source: Naeini et al., AAAI 2015; bins of equal mass after Nguyen & O'Connor, EMNLP 2015.
    """
    label, probability = numbers(label=label, probability=probability)
    if not label.size:
        return None
    off = (label > 0) - probability
    parts = np.array_split(np.argsort(probability, kind="stable"), min(bins, label.size))
    return float(sum(abs(off[part].sum()) for part in parts) / label.size)
