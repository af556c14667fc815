"""The held-out users of all windows together, as often as each was drawn."""

# Shape suffixes: B draws of the users, P pairs of a draw and a user, U users of all windows, C candidates.

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arrays import I64
from training.labelcraft._objectives import Candidates
from training.labelcraft.closed_form._ridge import RidgeWindow

_PARTS: Final = 8
"""Users of about as many candidates are laid out together: few have the most, and padding costs as much."""


class DrawnUsers(NamedTuple):
    """Some pairs of a draw and a user."""

    draw: Tensor
    """`[P, 1]`"""
    weight: Tensor
    """`[P]` share of the draw that is this user's; over all parts they sum to 1 a draw."""
    rows: Tensor
    """`[P, C]` index of each candidate among the rows of all windows, one window after the other."""
    candidates: Candidates

    def scores(self, score_BR: Tensor) -> Tensor:
        """Return `[P, C]` from the scores of all rows under the labels of each draw."""
        return score_BR[self.draw, self.rows]


def draw_users(windows: Sequence[RidgeWindow], redraws: int, *, seed: int) -> list[DrawnUsers]:
    """Draw the users of the windows, first all as they are, then with replacement.

    Who is drawn twice counts twice in every window: a bootstrap by user.
    """
    user_U = np.concatenate([window.user for window in windows])
    _, index_U = np.unique(user_U, return_inverse=True)
    distinct = int(index_U.max()) + 1
    random = np.random.default_rng(seed)
    drawn = random.multinomial(distinct, np.full(distinct, 1 / distinct), size=redraws - 1)
    count_BU = np.concatenate([np.ones((1, distinct), np.int64), drawn])[:, index_U]
    candidates, row_UC = _together(windows)
    length_U = candidates.mask.sum(dim=1)
    draw_P, user_P = np.nonzero(count_BU)
    weight_P = count_BU[draw_P, user_P] / count_BU.sum(axis=1)[draw_P]
    order_P = np.argsort(length_U.numpy()[user_P], kind="stable")
    parts = []
    for part in np.array_split(order_P, min(_PARTS, len(order_P))):
        users = torch.from_numpy(user_P[part])
        longest = int(length_U[users].max())
        parts.append(
            DrawnUsers(
                torch.from_numpy(draw_P[part])[:, None],
                torch.from_numpy(weight_P[part].astype(np.float32)),
                row_UC[users, :longest],
                Candidates(*(column[users, :longest] for column in candidates)),
            )
        )
    return parts


def _together(windows: Sequence[RidgeWindow]) -> tuple[Candidates, Tensor]:
    """Return the candidates of all windows' users, and the rows of all windows numbered through."""
    longest = max(window.rows.shape[1] for window in windows)
    starts: I64 = np.cumsum([0, *(len(window.response) for window in windows)])
    columns = zip(*(window.candidates for window in windows), strict=True)
    candidates = Candidates(*(torch.cat([_padded(part, longest) for part in column]) for column in columns))
    rows = [_padded(w.rows + int(start), longest) for w, start in zip(windows, starts, strict=False)]
    return candidates, torch.cat(rows)


def _padded(part_UC: Tensor, longest: int) -> Tensor:
    padded = part_UC.new_zeros((len(part_UC), longest, *part_UC.shape[2:]))
    padded[:, : part_UC.shape[1]] = part_UC
    return padded
