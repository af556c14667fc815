"""The held-out exposures that the platform's objectives are measured on, user by user."""

# Shape suffixes: U users, C candidates (padded).

from __future__ import annotations

import torch

from models.arrays import I64
from training.data import Interactions
from training.encoders import DinInputs, DinRows, Slates, slates
from training.labelcraft._objectives import Candidates, candidates_of
from training.labels import Scale


class HoldOut:
    """The held-out users with more than k candidates: of k or fewer, any order shows all.

    Args:
        log: the log.
        rows: held-out rows, ascending.
        prepared: the same log as DIN reads it.
        watch_scale, duration_scale: fitted on train.
        k: size of the slate.
    """

    def __init__(
        self,
        log: Interactions,
        rows: I64,
        prepared: DinRows,
        *,
        watch_scale: Scale,
        duration_scale: Scale,
        k: int,
    ) -> None:
        self._slates = slates(log, rows, more_than=k)
        self._prepared = prepared
        self._log = log
        self._watch_scale, self._duration_scale = watch_scale, duration_scale

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self._slates.rows)

    def sample(self, users: I64) -> tuple[DinInputs, Candidates]:
        """Return one padded batch of the `[U]` users with these indices, of 0 … len - 1."""
        mask = self._slates.mask[torch.from_numpy(users)]
        longest = int(mask.sum(-1).max()) if len(users) else 0
        picked = Slates(self._slates.rows[users, :longest], mask[:, :longest])
        candidates = candidates_of(self._log, picked, self._watch_scale, self._duration_scale)
        return self._prepared.together(picked), candidates
