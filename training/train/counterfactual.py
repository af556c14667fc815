"""What one more exposure of the same author must do to a candidate, as a loss."""

# Shape suffixes: B rows, K figures that a candidate is ordered by.

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
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
WHOLE_VIEW_MARGIN: Final = 0.3
"""By how much a whole view must raise it. With `MARGIN` the mean does, and half of the candidates do not:
their reactions differ by some .2."""
LONGEST_AGO_S: Final = 3600.0
"""The exposure is as long ago as this at most."""
SKIPPED_S: Final = 3.0
"""A skip is shorter than this."""

_AUTHOR: Final = SEQUENCE_ID_COLUMNS.index("author_id")


class Counterfactuals:
    """Requests to which one exposure is added: of a video of the candidate's author, within the last hour.

        L = Σ mean relu(s(less) - s(more) + m)

    over skip < none, none < whole view, whole view and then a hate < none, and skip < third < most < whole
    view < replay; s is what a candidate is ordered by, m `WHOLE_VIEW_MARGIN` between none and a whole view,
    and `MARGIN` elsewhere. So a skip lowers it, a whole view raises it less than a hate lowers it, and more
    of the author watched never lowers it. A log says little of it: a feed follows a skip with other authors.
    Without this loss the running statistics, which say "active again", often outweigh what was skipped. How
    much was watched is drawn: of fixed shares a ranker learns these alone, and takes a replay, which it is
    not shown, for less than a whole view.

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
        age = torch.from_numpy(LONGEST_AGO_S * random.random(len(other), dtype=np.float32))
        watched = _draw_watch_times(duration, random)
        longer = [with_step(x, self._log.ids[other], _feedback(w, duration), age) for w in watched]
        hated = with_step(
            longer[3], self._log.ids[other], _feedback(watched[0], duration, hate=True), age / 2
        )
        none, view_and_hate, after = appeal(x), appeal(hated), [appeal(each) for each in longer]
        pairs = [(after[0], none), (view_and_hate, none), *pairwise(after)]
        losses = [F.relu(less - more + MARGIN).mean() for less, more in pairs]
        losses.append(F.relu(none - after[3] + WHOLE_VIEW_MARGIN).mean())
        return torch.stack(losses).sum()


def _draw_watch_times(duration_B: F32, random: np.random.Generator) -> tuple[F32, ...]:
    """Draw the seconds of a skip, a third and most of a video, a whole view and a replay, in this order."""
    draw = random.random((5, len(duration_B)), dtype=np.float32)
    skip = np.minimum(SKIPPED_S * draw[0], 0.15 * duration_B)
    shares = (0.2 + 0.25 * draw[1], 0.5 + 0.4 * draw[2], 0.98 + 0.1 * draw[3], 1.1 + 1.9 * draw[4])
    return (skip, *(share * duration_B for share in shares))


def _feedback(watched_B: F32, duration_B: F32, *, hate: bool = False) -> F32:
    """Feedback of exposures at which nothing else was done, `[B, 8]`."""
    feedback = np.zeros((len(watched_B), len(FEEDBACK_COLUMNS)), np.float32)
    feedback[:, FEEDBACK_COLUMNS.index("watch_time_s")] = watched_B
    feedback[:, FEEDBACK_COLUMNS.index("duration_s")] = duration_B
    feedback[:, FEEDBACK_COLUMNS.index("hate")] = hate
    return feedback
