"""Exposures that were liked or hated: what labels must tell apart without seeing which is which."""

# Shape suffixes: N rows, U users.

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from models.arrays import Bools
from models.errors import BadInput
from models.features import FEEDBACK_COLUMNS, HISTORY_COLUMNS, SEQUENCE_ID_COLUMNS
from models.schema import MAX_DURATION_S, MAX_WATCH_TIME_S
from models.vocabulary import UNKNOWN
from training.data._checks import check_amounts, check_milliseconds, check_same_unit, refuse_first
from training.data._files import Kind, find, read_columns
from training.data._interactions import Interactions

_COLUMNS: Final = {
    "user_id": Kind.ID,
    "play_time_ms": Kind.NUMBER,
    "duration_ms": Kind.NUMBER,
    "label": Kind.WHOLE,
}


@dataclass(frozen=True)
class LikesHates:
    """Exposures of which each was liked or hated, with nothing but `liked` to know which by."""

    log: Interactions
    """Watch times and durations; all flags are 0, ids and times unknown."""
    liked: Bools
    """`[N]` the others were hated."""
    dropped: int
    """Rows that were left out because the duration is unknown."""

    def __post_init__(self) -> None:
        if not (self.liked.any() and not self.liked.all()):
            found = "no rows" if not len(self.liked) else f"only {'likes' if self.liked[0] else 'hates'}"
            raise BadInput(f"likes cannot be compared with hates: there are {found} with a duration.")
        both = np.intersect1d(self.log.user[self.liked], self.log.user[~self.liked])
        if not len(both):
            raise BadInput(
                f"none of the {len(np.unique(self.log.user))} users has both a like and a hate, so no user's "
                "own likes and hates can be compared; take all of the likes and hates of a user."
            )

    def halves(self) -> tuple[LikesHates, LikesHates]:
        """Return the users whom labels may be learned from, and those whom they are evaluated on.

        A hash of the id decides, so that a user stays in a half when others come or go.

        Raises:
            BadInput: a half lacks likes, hates, or a user with both.
        """
        learning_U = np.array([_is_for_learning(user) for user in self.log.user_ids], bool)
        learning_N = learning_U[self.log.user]
        return self._take(learning_N), self._take(~learning_N)

    def _take(self, rows: Bools) -> LikesHates:
        return replace(self, log=self.log.take(np.flatnonzero(rows)), liked=self.liked[rows])


def read_likes_hates(folder: Path) -> LikesHates:
    """Read the likes and hates of a folder.

    Args:
        folder: CSV or parquet files with the columns `user_id`, `play_time_ms`, `duration_ms`, 0 or empty
            where it is unknown, and `label`, 1 for a like and 0 for a hate. Other columns are ignored.

    Raises:
        BadInput: there is no file, a column is missing, a value breaks its range or unit, or likes cannot be
            compared with hates.
    """
    files = find(folder, "*")
    if not files:
        raise BadInput(
            f"{folder} holds no .csv or .parquet file of likes and hates; it needs the columns "
            f"{', '.join(_COLUMNS)}."
        )
    table = pl.concat([_read(path) for path in files])
    known = table.filter(pl.col("duration_ms") > 0).sort("user_id", maintain_order=True)
    users = known["user_id"].unique().sort()
    feedback = np.zeros((len(known), len(FEEDBACK_COLUMNS)), np.float32)
    for column, name in (("watch_time_s", "play_time_ms"), ("duration_s", "duration_ms")):
        feedback[:, FEEDBACK_COLUMNS.index(column)] = known[name].to_numpy() / 1000.0
    log = Interactions(
        user=np.searchsorted(users.to_numpy(), known["user_id"].to_numpy()).astype(np.int64),
        ids=np.full((len(known), len(SEQUENCE_ID_COLUMNS)), UNKNOWN, np.int64),
        timestamp_ms=np.zeros(len(known), np.int64),
        feedback=feedback,
        user_ids=tuple(users),
        profile=np.zeros((len(users), 0), np.float32),
        profile_ids=np.zeros((len(users), 0), np.int64),
        history_ids=np.zeros((len(users), 0), np.int64),
        history_feedback=np.zeros((len(users), 0, len(HISTORY_COLUMNS)), np.float32),
    )
    return LikesHates(log, known["label"].to_numpy() == 1, len(table) - len(known))


def _read(path: Path) -> pl.DataFrame:
    table, file = read_columns(path, _COLUMNS), path.name
    for name in ("user_id", "play_time_ms", "label"):
        refuse_first(table, pl.col(name).is_null(), file, name, "is empty, and must not be")
    refuse_first(table, ~pl.col("label").is_in([0, 1]), file, "label", "must be 1 for a like or 0 for a hate")
    for name, high in (("play_time_ms", MAX_WATCH_TIME_S), ("duration_ms", MAX_DURATION_S)):
        check_amounts(table, name, file, high=1000 * high, unit="ms")
    if (table["duration_ms"] > 0).any():
        check_milliseconds(table, "duration_ms", file)
        check_same_unit(table, "play_time_ms", "duration_ms", file)
    return table


def _is_for_learning(user: str) -> bool:
    return hashlib.sha256(user.encode()).digest()[0] % 2 == 0
