"""What is measured of the slates that a recommender chooses, user by user."""

# Shape suffixes: R rows of a window's slates, U users, C candidates (padded), P pairs of candidates.

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32, F64
from models.metrics import nwtg_at_k
from training.data import Interactions
from training.experiments.labels.rolling import Window
from training.labelcraft import OBJECTIVES, RELATIVE_OBJECTIVES, next_day_return
from training.labelcraft.closed_form import Composite
from training.labels import duration_s, hated

COMPOSITES: Final = ("composite", "paper_composite")
"""Of the objectives that labels are learned on, and of LabelCraft's own three."""
OBJECTIVE_FIGURES: Final = {**RELATIVE_OBJECTIVES, **OBJECTIVES, "next_day_return": next_day_return}
FIGURES: Final = (*COMPOSITES, "nwtg", "neg", "ds", *OBJECTIVE_FIGURES, "duration_pull")
"""In the order of `WindowFigures.values`; the larger, the better, but for the last."""


class WindowFigures:
    """Figures of any scores of one window.

        composite         Σ_i M_i / (σ_i n), relative usage, net feedback and duration spread of the k best
        paper_composite   the same of usage time, engagement and duration spread
        nwtg              watch time of the k best, discounted, divided by that of the ideal order
        neg               AUC of net feedback among the candidates; undefined where none has any
        ds                standard deviation of the durations of the k best, s
        duration_pull     mean log duration of the k best, less that of all candidates

    Args:
        log: the exposures.
        window: its users and their candidates.
        composites: by the names of `COMPOSITES`.
        k: size of the slate.
    """

    def __init__(self, log: Interactions, window: Window, composites: dict[str, Composite], k: int) -> None:
        self.window, self.composites, self.k = window, composites, k
        self._index = torch.from_numpy(window.index)
        rows = log.take(window.rows)
        self._user, self._watched = rows.user, rows.watch_time_s
        candidates = window.candidates
        self._duration = duration_s(candidates.feedback)
        net_UC = (candidates.explicit - hated(candidates.feedback)) * candidates.mask
        net_UC = net_UC.masked_fill(~candidates.mask, torch.nan)
        better = net_UC[:, :, None] > net_UC[:, None, :]  # of a pair with padding this is false
        self._pair_user, self._better, self._worse = torch.nonzero(better, as_tuple=True)

    def values(self, score_R: F32 | F64) -> F64:
        """Return `[figures, U]`, NaN where a user has no figure."""
        candidates, k = self.window.candidates, self.k
        score_UC, slate_UC = self._slates(score_R)
        duration_UK = self._duration[slate_UC > 0].reshape(-1, k)
        figures: dict[str, Tensor | F64] = {
            name: composite.of_slates(candidates, slate_UC) for name, composite in self.composites.items()
        }
        figures["nwtg"] = nwtg_at_k(self._user, np.asarray(score_R), self._watched, k).values
        figures["neg"] = self._pair_accuracy(score_UC)
        figures["ds"] = duration_UK.std(dim=1, correction=0)
        figures |= {name: objective(slate_UC, candidates) for name, objective in OBJECTIVE_FIGURES.items()}
        log_UC = torch.log1p(self._duration) * candidates.mask
        figures["duration_pull"] = torch.log1p(duration_UK).mean(1) - log_UC.sum(1) / candidates.mask.sum(1)
        return np.stack([np.asarray(figures[name], np.float64) for name in FIGURES])

    def composite(self, score_R: F32 | F64) -> tuple[float, ...]:
        """Return the sums over the users of `COMPOSITES` alone, for those who try many rules."""
        _, slate_UC = self._slates(score_R)
        both = (self.composites[name].of_slates(self.window.candidates, slate_UC) for name in COMPOSITES)
        return tuple(float(value_U.sum()) for value_U in both)

    def _slates(self, score_R: F32 | F64) -> tuple[Tensor, Tensor]:
        """Return `[U, C]` scores, and the slates that they choose."""
        score_UC = torch.from_numpy(np.asarray(score_R, np.float64))[self._index]
        return score_UC, self.composites[COMPOSITES[0]].slates(self.window.candidates, score_UC)

    def _pair_accuracy(self, score_UC: Tensor) -> Tensor:
        better_P, worse_P = score_UC[self._pair_user, self._better], score_UC[self._pair_user, self._worse]
        right_P = (better_P > worse_P) + 0.5 * (better_P == worse_P)
        users = len(score_UC)
        right_U = torch.bincount(self._pair_user, right_P.double(), minlength=users)
        return right_U / torch.bincount(self._pair_user, minlength=users)


def composites_of(windows: Sequence[Window], k: int) -> dict[str, Composite]:
    """Return the composites of `COMPOSITES`; their deviations are of all users of these windows."""
    candidates = [window.candidates for window in windows]
    objectives = zip(COMPOSITES, (RELATIVE_OBJECTIVES, OBJECTIVES), strict=True)
    return {name: Composite(candidates, own, k) for name, own in objectives}
