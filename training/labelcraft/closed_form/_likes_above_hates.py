"""How often a liked exposure is labelled above a hated one, when the label does not see which is which."""

# Shape suffixes: P pairs, T entries of a table's plain sheet; B tables with axes W, D and S.

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.data import LikesHates
from training.labelcraft.closed_form._surface import LabelSurface, Sheet

_PAIRS: Final = 20_000
"""Drawn from all pairs: the share in order is then known to .003, and a step takes milliseconds."""
_TEMPERATURE: Final = 0.25
"""Difference of two labels, in their deviations, that counts as well as settled."""


class LikesHatesObjective:
    """`mean over pairs of σ((y(w, d) of the like - y(w, d) of the hate) / τ)`, a soft AUC.

    Both labels are those of the same watch without any flag.

    Args:
        rows: liked and hated exposures.
        surface: whose knots are placed.
        seed: of the pairs.
    """

    def __init__(self, rows: LikesHates, surface: LabelSurface, *, seed: int = 0) -> None:
        random, basis = np.random.default_rng(seed), surface.basis(rows.log)
        like_P, hate_P = (random.choice(np.flatnonzero(kind), _PAIRS) for kind in (rows.liked, ~rows.liked))
        difference_PT = (basis[like_P] - basis[hate_P])[:, Sheet.PLAIN :: len(Sheet)].toarray()
        self._difference_PT = torch.from_numpy(difference_PT.astype(np.float32))

    def __call__(self, table_BWDS: Tensor) -> Tensor:
        """Return the soft AUC of each table `[B]`, of labels with deviation 1."""
        difference_BP = table_BWDS[..., Sheet.PLAIN].flatten(1) @ self._difference_PT.T
        return torch.sigmoid(difference_BP / _TEMPERATURE).mean(dim=1)
