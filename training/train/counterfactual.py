"""What one more exposure of the same author must do to a candidate, as a loss."""

# Shape suffixes: B rows, K figures that a candidate is ordered by.

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.arrays import F32, I64
from models.features import FEEDBACK_COLUMNS, SEQUENCE_ID_COLUMNS
from models.vocabulary import FIRST
from training.data import Interactions
from training.encoders import RankerInputs, with_step

MARGIN: Final = 0.01
"""By how much a candidate must move; on log seconds and logits."""
LONGEST_AGO_S: Final = 3600.0
"""The exposure is as long ago as this at most."""
SKIPPED_S: Final = 3.0
"""A skip is shorter than this."""

_AUTHOR: Final = SEQUENCE_ID_COLUMNS.index("author_id")


class Counterfactuals:
    """Requests to which one exposure is added: of a video of the candidate's author, within the last hour.

        L = mean relu(after a skip - before + m) + mean relu(before - after a whole view + m)

    A log says little of it: a feed follows a skip with other authors. Without this loss the running
    statistics, which say "active again", often outweigh what was skipped.

    Args:
        log: the exposures.
        rows: those that are fitted on; the videos that are added are drawn from them, the
            candidate itself among them.
    """

    def __init__(self, log: Interactions, rows: I64) -> None:
        self._log = log
        self._by_author = rows[np.argsort(log.ids[rows, _AUTHOR], kind="stable")]
        self._author = log.ids[self._by_author, _AUTHOR]

    def loss(
        self, appeal: Callable[[RankerInputs], Tensor], x: RankerInputs, random: np.random.Generator
    ) -> Tensor:
        """Return the loss of requests of one candidate each; 0 where no author is known.

        Args:
            appeal: requests -> `[B, K]`, more is better for the candidate.
            x: the requests.
            random: draws videos and times.
        """
        author_B = x.candidate_ids[:, 0, _AUTHOR].numpy()
        known = np.flatnonzero(author_B >= FIRST)
        if not len(known):
            return torch.zeros((), requires_grad=True)
        x = RankerInputs(*(column[known] for column in x))
        low = np.searchsorted(self._author, author_B[known], side="left")
        high = np.maximum(np.searchsorted(self._author, author_B[known], side="right"), low + 1)
        other = self._by_author[np.minimum(random.integers(low, high), len(self._by_author) - 1)]
        duration = self._log.duration_s[other]
        draw = random.random((2, len(other)), dtype=np.float32)
        skipped = np.minimum(SKIPPED_S * draw[0], 0.9 * duration)
        age = torch.from_numpy(LONGEST_AGO_S * draw[1])
        before = appeal(x)
        fell, rose = (
            appeal(with_step(x, self._log.ids[other], _watched(watched, duration), age))
            for watched in (skipped, duration)
        )
        return F.relu(fell - before + MARGIN).mean() + F.relu(before - rose + MARGIN).mean()


def _watched(watched_B: F32, duration_B: F32) -> F32:
    """Feedback of exposures at which nothing else was done, `[B, 8]`."""
    feedback = np.zeros((len(watched_B), len(FEEDBACK_COLUMNS)), np.float32)
    feedback[:, FEEDBACK_COLUMNS.index("watch_time_s")] = watched_B
    feedback[:, FEEDBACK_COLUMNS.index("duration_s")] = duration_B
    return feedback
