"""What one more exposure of the same author must do to a candidate, as a loss."""

# Shape suffixes: B rows, L steps, K figures that a candidate is ordered by.

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
from training.encoders import RankerInputs

MARGIN: Final = 0.01
"""By how much a candidate must move; on log seconds and logits."""
LONGEST_AGO_S: Final = 3600.0
"""The exposure is as long ago as this at most."""
SKIPPED_S: Final = 3.0
"""A skip is shorter than this."""

_AUTHOR: Final = SEQUENCE_ID_COLUMNS.index("author_id")
_COLUMNS: Final = len(FEEDBACK_COLUMNS)


class Counterfactuals:
    """Requests to which one exposure is added: of another video of the candidate's author, just before.

        L = mean relu(after a skip - before + m) + mean relu(before - after a whole view + m)

    A log says little of it: a feed follows a skip with other authors. Without this loss the running
    statistics, which say "active again", often outweigh what was skipped.

    Args:
        log: the exposures.
        rows: those that are fitted on; the other videos are drawn from them.
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
            return torch.zeros(())
        x = RankerInputs(*(column[known] for column in x))
        low = np.searchsorted(self._author, author_B[known], side="left")
        high = np.maximum(np.searchsorted(self._author, author_B[known], side="right"), low + 1)
        other = self._by_author[np.minimum(random.integers(low, high), len(self._by_author) - 1)]
        duration = self._log.duration_s[other]
        draw = random.random((2, len(other)), dtype=np.float32)
        skipped = np.minimum(SKIPPED_S * draw[0], 0.9 * duration)
        before = appeal(x)
        fell, rose = (
            appeal(_appended(x, self._log.ids[other], watched, duration, draw[1]))
            for watched in (skipped, duration)
        )
        return F.relu(fell - before + MARGIN).mean() + F.relu(before - rose + MARGIN).mean()


def _appended(x: RankerInputs, ids_B4: I64, watched_B: F32, duration_B: F32, share_B: F32) -> RankerInputs:
    """The requests with one more step, the newest, in the tab of the request."""
    newest = x.sequence_age_s[:, -1] if x.sequence_age_s.shape[1] else torch.tensor(torch.inf)
    there = x.sequence_ids[:, -1, 0] > 0 if x.sequence_age_s.shape[1] else torch.tensor(False)
    latest = torch.where(there, newest, LONGEST_AGO_S).clamp(max=LONGEST_AGO_S)
    feedback = torch.zeros(len(ids_B4), 1, _COLUMNS)
    feedback[:, 0, 0], feedback[:, 0, 1] = torch.from_numpy(watched_B), torch.from_numpy(duration_B)
    ids = torch.from_numpy(ids_B4.copy())
    ids[:, -1] = x.context_ids[:, 0]
    age_B = latest * torch.from_numpy(share_B).to(latest.dtype)
    return x._replace(
        sequence_ids=torch.cat([x.sequence_ids, ids[:, None]], dim=1),
        sequence_feedback=torch.cat([x.sequence_feedback, feedback], dim=1),
        sequence_age_s=torch.cat([x.sequence_age_s, age_B[:, None]], dim=1),
    )
