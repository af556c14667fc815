"""XAUC: how often a pair of exposures is put in the right order, in O(N log N)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.arrays import F64, I64
from models.metrics._rows import Column, Users, numbers, same_length

Ties = Literal["comparable", "strict", "lenient"]
"""How pairs that tie are counted; see `xauc`."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """All N(N-1)/2 unordered pairs of rows, by what became of them. The four kinds add up to `total`."""

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
        """See `xauc`."""
        if ties == "comparable":
            right, among = self.concordant + self.prediction_ties / 2, self.total - self.target_ties
        elif ties == "strict":
            right, among = float(self.concordant), self.total
        elif ties == "lenient":
            right, among = self.concordant + self.prediction_ties / 2 + self.target_ties, self.total
        else:
            raise ValueError(f"`ties` must be comparable, strict or lenient, found {ties!r}")
        return right / among if among else None


def xauc(prediction: Column, target: Column, ties: Ties = "comparable") -> float | None:
    """Probability that two rows are ordered by `prediction` as they are by `target`.

    Three conventions are in circulation and differ in the second digit, because watch times tie:

    * `comparable`: (concordant + ½ prediction ties) / pairs whose targets differ. A constant predictor
      has 0.5. The one we report (as HEGM's code does).
    * `strict`: concordant / all pairs. Target ties score 0 (as in TPM's, GR's and EGMN's code).
    * `lenient`: (concordant + ½ prediction ties + target ties) / all pairs. Target ties score 1 (as in
      Kuaishou's D2Q code and CWM's).

    Deviation: in the released code of the last two a prediction tie scores whatever an unstable sort
    makes of it. Here it scores 0 in `strict`, and in `lenient` ½, what a random order gives on average.

    Args:
        prediction: `[N]` any score; only its order matters.
        target: `[N]` what was watched, in any unit.
        ties: the convention.

    Returns:
        A number in [0, 1]; `None` when there is no pair to count.

    Raises:
        ValueError: another convention, or columns of different lengths.
        BadInput: a value is not finite.

    Sources: Zhan et al., "Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation",
    KDD 2022; the conventions are those of the repositories named.
    """
    return count_pairs(prediction, target).xauc(ties)


def xgauc(user: Column, prediction: Column, target: Column) -> float | None:
    """XAUC within each user, averaged with the user's exposures as weights.

        XGAUC = Σ_u n_u XAUC_u / Σ_u n_u      over users with a pair of rows whose targets differ

    What a list of one user's is judged by: who watches long is no merit of its order.

    Args:
        user: `[N]` ids, in any order.
        prediction, target: as for `xauc`, by the `comparable` convention.

    Returns:
        A number in [0, 1]; `None` when no user has such a pair.

    Raises:
        ValueError: columns of different lengths.
        BadInput: a value is not finite.

    Source: Zhao et al., "Counteracting Duration Bias in Video Recommendation via Counterfactual Watch Time",
    KDD 2024.
    """
    same_length(user=user, prediction=prediction, target=target)
    by, of = numbers(prediction=prediction, target=target)
    users = Users.of(user)
    order = np.argsort(users.index, kind="stable")
    total = weight = 0.0
    for start, rows in zip(users.starts(), users.rows, strict=True):
        mine = order[start : start + rows]
        within = count_pairs(by[mine], of[mine]).xauc() if rows > 1 else None
        if within is not None:
            total, weight = total + rows * within, weight + rows
    return float(total / weight) if weight else None


def count_pairs(prediction: Column, target: Column) -> Pairs:
    """Every pair of rows by kind, in O(N log N) time and O(N) memory. Arguments as for `xauc`."""
    by, of = numbers(prediction=prediction, target=target)
    # Ties of the prediction are put in the target's order, so that they never count as inverted.
    order = np.lexsort((of, by))
    by, of = by[order], of[order]
    rank = np.empty(len(of), np.int64)
    rank[np.argsort(of, kind="stable")] = np.arange(len(of))
    discordant = _inversions(rank)

    total = len(of) * (len(of) - 1) // 2
    target_ties = _tied_pairs(_run_lengths(np.sort(of)))
    both = _tied_pairs(_run_lengths(by, of))
    prediction_ties = _tied_pairs(_run_lengths(by)) - both
    concordant = total - target_ties - prediction_ties - discordant
    return Pairs(concordant, discordant, prediction_ties, target_ties)


def _run_lengths(*sorted_columns: F64) -> I64:
    """Lengths of the runs of rows that agree in all columns."""
    size = len(sorted_columns[0])
    if size == 0:
        return np.zeros(0, np.int64)
    starts = np.zeros(size, bool)
    starts[0] = True
    for column in sorted_columns:
        starts[1:] |= column[1:] != column[:-1]
    return np.diff(np.flatnonzero(starts), append=size).astype(np.int64)


def _tied_pairs(lengths: I64) -> int:
    return int((lengths * (lengths - 1) // 2).sum())


def _inversions(rank: I64) -> int:
    """Pairs i < j with rank_i > rank_j, for a permutation of 0 … N-1.

    A merge sort run backwards, one whole level at a time. The ranks are padded to a power of two, so at the
    level of bit k they lie in blocks of 2^(k+1) that share every higher bit, and exactly half of each block
    has the bit set. A pair in one block that differs in the bit is inverted when its 1 stands before its 0:
    for the j-th 0 of a block, at column c, that is c - j times. Then 0s and 1s part, each in its order, and
    make the blocks of the next level.
    """
    bits = max(len(rank) - 1, 0).bit_length()
    padded = np.arange(1 << bits, dtype=np.int64)  # what is padded is largest and last: never inverted
    padded[: len(rank)] = rank
    found = 0
    for bit in reversed(range(bits)):
        half = 1 << bit
        blocks = len(padded) // (2 * half)
        low = (padded & half) == 0
        # Σ over 0s of (column - j) = Σ flat index - Σ first index of the block - Σ j.
        flat = int(np.flatnonzero(low).sum())
        found += flat - half * (2 * half) * (blocks * (blocks - 1) // 2) - blocks * (half * (half - 1) // 2)
        parted = np.empty((blocks, 2, half), np.int64)
        parted[:, 0] = padded[low].reshape(blocks, half)
        parted[:, 1] = padded[~low].reshape(blocks, half)
        padded = parted.ravel()
    return found
