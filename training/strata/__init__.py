"""Statistics of a quantity within strata: what is long for a short video is short for a long one.

>>> import numpy as np, torch
>>> from training.strata import StratifiedQuantiles
>>> watched = np.array([1, 2, 3, 10, 20, 30], np.float32)
>>> table = StratifiedQuantiles(2, points=3, min_rows=1).fit(watched, np.array([0, 0, 0, 1, 1, 1]))
>>> table.cdf(torch.tensor([2.0, 20.0]), torch.tensor([0, 1]))
tensor([0.5000, 0.5000])
>>> table.inverse(torch.tensor([1.0, 1.0]), torch.tensor([0, 1]))
tensor([ 3., 30.])
"""

from training.strata._groups import DurationGroups, how_many
from training.strata._moments import StratifiedMoments
from training.strata._quantiles import StratifiedQuantiles, falling_masses

__all__ = [
    "DurationGroups",
    "StratifiedMoments",
    "StratifiedQuantiles",
    "falling_masses",
    "how_many",
]
