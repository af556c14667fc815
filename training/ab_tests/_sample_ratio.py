"""Sample-ratio check: arms of another size than planned mean that users were lost or sent astray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.special import chdtrc

SAMPLE_RATIO_ALPHA: Final = 0.001
"""Below this p value nothing else of the experiment is to be believed."""


def sample_ratio_p(users: Sequence[int], shares: Sequence[float]) -> float:
    """Return the p value of Pearson's chi-squared test that users were split as planned.

    Args:
        users: how many were seen in each arm.
        shares: planned, in any unit: 1 and 1 are halves.

    Source: Fabijan et al., "Diagnosing sample ratio mismatch in online controlled experiments", KDD 2019.
    """
    expected = np.asarray(shares, np.float64) / sum(shares) * sum(users)
    statistic = (np.square(np.asarray(users) - expected) / expected).sum()
    return float(chdtrc(len(users) - 1, statistic))
