"""Each row's own part in XAUC."""

# Shape suffixes: R rows, O rows that they are compared with, B rows of a batch.

from __future__ import annotations

from typing import Final

import numpy as np

from models.arrays import F32, F64

_OPPONENTS: Final = 20_000
"""Rows that each is compared with at most; of longer columns a random choice, the same every time."""
_CHUNK: Final = 4_000_000
"""Pairs in one go."""


def concordance(prediction_R: F32 | F64, target_R: F32 | F64) -> tuple[F64, F64]:
    """`[R]` pairs of each row that the prediction orders rightly (a tie counts ½), and pairs that count.

    Their sums over the rows are those of `XAUC` by the `comparable` convention, twice: each pair has two
    rows. Time grows with R · min(R, 20,000).
    """
    rows = len(target_R)
    chosen = np.arange(rows)
    if rows > _OPPONENTS:
        chosen = np.sort(np.random.default_rng(0).choice(rows, _OPPONENTS, replace=False))
    by_O, of_O = prediction_R[chosen], target_R[chosen]
    right_R, among_R = np.empty(rows), np.empty(rows)
    chunk = max(1, _CHUNK // max(len(chosen), 1))
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        of_BO = np.sign(target_R[part, None] - of_O)
        by_BO = np.sign(prediction_R[part, None] - by_O)
        counts_BO = of_BO != 0
        among_R[part] = counts_BO.sum(axis=1)
        right_R[part] = (counts_BO * (1 + of_BO * by_BO)).sum(axis=1) / 2
    return right_R, among_R
