"""Pairs of rows by whether a prediction orders them as the target does: what XAUC and AUC are made of.

Time O(N log N), memory O(N), exact for any N and any ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.arrays import F64, I64
from models.metrics._rows import Column, numbers, same_length

# Shape suffixes: N rows.

Ties = Literal["comparable", "strict", "lenient"]
"""How pairs that tie are counted; see `xauc`."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """All N(N-1)/2 unordered pairs of rows by kind. The four kinds add up to `total`."""

    concordant: int
    """Target and prediction differ, in the same direction."""
    discordant: int
    """Target and prediction differ, in opposite directions."""
    prediction_ties: int
    """The target differs, the prediction does not."""
    target_ties: int
    """The target is equal: no order is right or wrong."""

    @property
    def total(self) -> int:
        """N(N-1)/2."""
        return self.concordant + self.discordant + self.prediction_ties + self.target_ties

    def xauc(self, ties: Ties = "comparable") -> float | None:
        """Return the share of pairs in the right order; see `xauc` for the conventions."""
        if ties == "comparable":
            right, among = self.concordant + self.prediction_ties / 2, self.total - self.target_ties
        elif ties == "strict":
            right, among = float(self.concordant), self.total
        elif ties == "lenient":
            right, among = self.concordant + self.prediction_ties / 2 + self.target_ties, self.total
        else:
            raise ValueError(f"`ties` must be comparable, strict or lenient, found {ties!r}")
        return right / among if among else None


@dataclass(frozen=True, slots=True)
class RowPairs:
    """How many pairs of each kind a row is in. Sums over all rows count every pair twice."""

    concordant: I64
    """`[N]` pairs that the prediction orders as the target does."""
    prediction_ties: I64
    """`[N]` pairs whose targets differ and whose predictions do not."""
    comparable: I64
    """`[N]` pairs whose targets differ."""

    @property
    def right(self) -> F64:
        """`[N]` pairs in the right order, a prediction tie counting ½."""
        return self.concordant + self.prediction_ties / 2


def count_pairs(prediction: Column, target: Column) -> Pairs:
    """Count all pairs of rows by kind.

    Args:
        prediction: `[N]` any score; only its order matters.
        target: `[N]` what is to be ordered, in any unit.

    Raises:
        ValueError: columns of different lengths.
        BadInput: a value is not finite.
    """
    found = row_pairs(prediction, target)
    total = len(found.comparable) * (len(found.comparable) - 1) // 2
    concordant, ties, comparable = (
        int(column.sum()) // 2 for column in (found.concordant, found.prediction_ties, found.comparable)
    )
    return Pairs(concordant, comparable - concordant - ties, ties, total - comparable)


def row_pairs(prediction: Column, target: Column, group: Column | None = None) -> RowPairs:
    """Count the pairs of each row.

    With a target of 0 and 1 these are the pairs between rows of different kind, those of an AUC. Summed by
    user they are the user's terms of a statistic over pairs (Hoeffding's projection).

    Args:
        prediction: `[N]` any score; only its order matters.
        target: `[N]` what is to be ordered, in any unit.
        group: `[N]` ids, in any order; only rows of one group make pairs. Without it, all rows do.

    Raises:
        ValueError: columns of different lengths.
        BadInput: a prediction or target is not finite.
    """
    by_N, of_N = numbers(prediction=prediction, target=target)
    group_N = np.zeros(len(by_N), np.int64) if group is None else group
    same_length(prediction=prediction, group=group_N)
    # Targets descend among equal predictions, and ranks descend among equal targets. So a pair that ties in
    # either is never in ascending order of both, and never counts as concordant.
    order_N = np.lexsort((-of_N, by_N, group_N))
    by_N, of_N, group_N = by_N[order_N], of_N[order_N], group_N[order_N]
    index_N = np.arange(len(order_N))
    by_target_N = np.lexsort((-index_N, of_N, group_N))
    rank_N = np.empty_like(index_N)
    rank_N[by_target_N] = index_N
    below_N = _smaller_before(rank_N)
    above_N = len(order_N) - 1 - rank_N - (index_N - below_N)
    first_N, rows_N = _runs(group_N)
    concordant_N = below_N - first_N + above_N - (len(order_N) - first_N - rows_N)
    same_both_N = _runs(group_N, by_N, of_N)[1]
    same_prediction_N = _runs(group_N, by_N)[1]
    same_target_N = np.empty_like(rows_N)
    same_target_N[by_target_N] = _runs(group_N[by_target_N], of_N[by_target_N])[1]
    out = np.empty((3, len(order_N)), np.int64)
    out[:, order_N] = concordant_N, same_prediction_N - same_both_N, rows_N - same_target_N
    return RowPairs(*out)


def _runs(*sorted_columns: Column) -> tuple[I64, I64]:
    """For each row, where the run of rows that agree in all columns begins, and its length."""
    size = len(sorted_columns[0])
    starts = np.ones(size, bool)
    if size:
        starts[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in sorted_columns])
    first = np.flatnonzero(starts)
    length = np.diff(first, append=size)
    return np.repeat(first, length), np.repeat(length, length)


def _smaller_before(rank_N: I64) -> I64:
    """For each i, how many j < i have rank_j < rank_i, for a permutation of 0 … N-1.

    A merge sort run backwards, one whole level at a time. The ranks are padded to a power of two, so at the
    level of bit k they lie in blocks of 2^(k+1) that share every higher bit, and exactly half of each block
    has the bit set. A pair in one block that differs in the bit ascends when its 0 stands before its 1: for
    the j-th 1 of a block, at column c, that is c - j times. Then 0s and 1s part, each in its order, and make
    the blocks of the next level.
    """
    size = len(rank_N)
    bits = max(size - 1, 0).bit_length()
    padded = np.arange(1 << bits)  # the padding is largest and last: it is before no row
    padded[:size] = rank_N
    by_rank = np.zeros(1 << bits, np.int64)
    for bit in reversed(range(bits)):
        half = 1 << bit
        low = (padded & half) == 0
        column = np.flatnonzero(~low).reshape(-1, half) & (2 * half - 1)
        high = padded[~low].reshape(-1, half)
        by_rank[high] += column - np.arange(half)
        padded = np.stack([padded[low].reshape(-1, half), high], axis=1).ravel()
    return by_rank[rank_N]
