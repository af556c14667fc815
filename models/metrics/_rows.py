"""What every metric asks of its columns, and rows grouped by user without a loop over users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import F64, I64
from models.errors import BadInput

# Shape suffixes: N rows, U users.

Column = npt.NDArray[Any]
"""`[N]`, one value a row: any real dtype, or strings for users."""


def numbers(**columns: Column) -> tuple[F64, ...]:
    """Return the columns as float64, in the order given.

    Raises:
        ValueError: a column is not `[N]`, or they differ in N.
        BadInput: a value is NaN or infinite. A diverged model is refused here: dropping its rows would
            flatter it.
    """
    same_length(**columns)
    out = tuple(np.asarray(column, np.float64) for column in columns.values())
    for name, column in zip(columns, out, strict=True):
        bad = np.flatnonzero(~np.isfinite(column))
        if bad.size:
            raise BadInput(
                f"`{name}` must be finite: {bad.size} of {column.size} values are not, the first is "
                f"{column[bad[0]]} in row {bad[0]}. Look at the model or the log that made it."
            )
    return out


def same_length(**columns: Column) -> None:
    """Check that all columns are `[N]` with one N.

    Raises:
        ValueError: a column is not, or they differ in N.
    """
    shapes = {name: np.shape(column) for name, column in columns.items()}
    if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
        raise ValueError(f"columns must be [N] with one N, found {shapes}")


@dataclass(frozen=True, slots=True)
class Users:
    """The distinct users of N rows."""

    ids: Column
    """`[U]` ascending."""
    index: I64
    """`[N]` 0 … U-1: which of them a row belongs to."""
    rows: I64
    """`[U]` how many rows each has."""

    @classmethod
    def from_ids(cls, user: Column) -> Users:
        """Group rows by `user` `[N]`, which need not be sorted."""
        ids, index, rows = np.unique(user, return_inverse=True, return_counts=True)
        return cls(ids, index.astype(np.int64), rows.astype(np.int64))

    def order_by(self, value: F64) -> I64:
        """`[N]` rows, user after user, each user's largest value first; equal values keep their order."""
        return np.lexsort((-value, self.index)).astype(np.int64)

    def starts(self) -> I64:
        """`[U]` where each user begins in `order_by`."""
        return (np.cumsum(self.rows) - self.rows).astype(np.int64)

    def sums(self, value: F64 | I64) -> F64:
        """`[U]` sum of `value` over each user's rows."""
        out: F64 = np.bincount(self.index, weights=value, minlength=len(self.ids)).astype(np.float64)
        return out
