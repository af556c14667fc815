"""How a bucket of watch ratios becomes the sequences that a VQ-VAE reads."""

# Shape suffixes: V values of a group, L sequences, S steps of a sequence.

from __future__ import annotations

from typing import Literal

import numpy as np

from models.arrays import F32

Sampling = Literal["local", "iid"]


def sample_sequences(
    values_V: F32, count: int, steps: int, *, sampling: Sampling, window: float, seed: int
) -> F32:
    """Draw sorted sequences from one group's values.

    `local` picks a rank at random and draws S values whose ranks lie within ±`window` of it: each
    sequence is a short, near-Gaussian piece of the distribution, and together they cover it evenly.
    `iid` draws S values from the whole group: every sequence then has the same law, so no code can stand
    for a mode. It is the literal reading of the poster, kept to show this.

    Args:
        values_V: `[V]` values, in any order, V ≥ 1.
        count: L.
        steps: S.
        sampling: `local` or `iid`.
        window: half the width of a local window, as a share of the ranks.
        seed: of the draws.

    Returns:
        `[L, S]`, each row ascending.

    Raises:
        ValueError: if there is no value.

    Source: Xu et al., LDA (the poster leaves the sequence open). Ours: local windows.
    """
    if len(values_V) == 0:
        raise ValueError("`values_V` is empty: there is nothing to draw sequences from.")
    rng = np.random.default_rng(seed)
    sorted_V = np.sort(values_V)
    if sampling == "local":
        centre_L1 = rng.random((count, 1))
        rank_LS = (centre_L1 + window * (2 * rng.random((count, steps)) - 1)).clip(0, 1)
    else:
        rank_LS = rng.random((count, steps))
    index_LS = np.minimum((rank_LS * len(sorted_V)).astype(np.int64), len(sorted_V) - 1)
    out: F32 = np.sort(sorted_V[index_LS], axis=1).astype(np.float32)
    return out
