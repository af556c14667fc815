"""Where the next long view stands in a ranking of the whole catalogue."""

# Shape suffixes: R targets, W beams, S seen videos, V rows of the vocabulary.

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from models.arrays import F64, I64
from training.language import NONE, FittedLanguage, Trie, Windows, beam_search, exact_scores

Rank = Callable[[Windows], I64]
"""Histories -> `[R, W]` videos, best first."""
ABSENT: Final = 1_000_000
"""Position of a target that is not among the beams."""
_BATCH: Final = 256
_TOP: Final = 5


def by_model(fitted: FittedLanguage, popular_W: I64, beams: int) -> Rank:
    """Rank by beam search; users without a history get what is popular."""
    trie = Trie.from_ids(fitted.ids)

    def rank(windows: Windows) -> I64:
        out = np.tile(popular_W[:beams], (len(windows.video), 1))
        for start in range(0, len(out), _BATCH):
            known = start + np.flatnonzero(windows.video[start : start + _BATCH].any(axis=1))
            found = beam_search(fitted.model, trie, fitted.read(windows.take(known)), beams).video.numpy()
            out[known] = NONE
            out[known, : found.shape[1]] = found
        return out

    return rank


def by_popularity(popular_W: I64) -> Rank:
    """Rank by how often videos were watched."""
    return lambda windows: np.tile(popular_W, (len(windows.video), 1))


def positions(ranked_RW: I64, target_R: I64, left_out_RS: I64 | None = None) -> I64:
    """Return the positions of targets from 0, `ABSENT` where they are not ranked, `[R]`.

    Args:
        ranked_RW: videos, best first.
        target_R: the next long views.
        left_out_RS: videos that are taken out of the ranking.
    """
    removed_RW = np.zeros(ranked_RW.shape, np.bool_)
    if left_out_RS is not None:
        for column_R in left_out_RS.T:  # not all at once: that is an array of R · W · S
            removed_RW |= ranked_RW == column_R[:, None]
    position_RW = np.cumsum(~removed_RW, axis=1) - 1
    hit_RW = (ranked_RW == target_R[:, None]) & ~removed_RW
    found_R = position_RW[np.arange(len(hit_RW)), hit_RW.argmax(axis=1)]
    out: I64 = np.where(hit_RW.any(axis=1), found_R, ABSENT)
    return out


def hits(position_R: I64, k: int) -> F64:
    """Return 1 where the target is among the k best, `[R]`."""
    return (position_R < k).astype(np.float64)


def gains(position_R: I64, k: int) -> F64:
    """Return NDCG@k of single targets, 1 / log2(position + 2) where the target is among the k best, `[R]`."""
    out: F64 = np.where(position_R < k, 1 / np.log2(position_R + 2.0), 0.0)
    return out


def exchanged(windows: Windows, seed: int) -> Windows:
    """Return the histories in another order of the users."""
    return windows.take(np.random.default_rng(seed).permutation(len(windows.video)))


def exact_agreement(fitted: FittedLanguage, windows: Windows, beams: int) -> float:
    """Return the share of prompts whose five best by beam search are the five most probable videos."""
    trie = Trie.from_ids(fitted.ids)
    agree = []
    for at in np.flatnonzero(windows.video.any(axis=1)):
        prompt = fitted.read(windows.take(np.array([at])))
        best = exact_scores(fitted.model, trie, prompt)[0].topk(_TOP).indices
        agree.append(
            torch.equal(beam_search(fitted.model, trie, prompt, beams).video[0, :_TOP], trie.video[best])
        )
    return float(np.mean(agree))


def timed(rank: Rank, windows: Windows) -> tuple[I64, float]:
    """Return a ranking, and the milliseconds of processor time a user."""
    began = time.process_time()
    ranked_RW = rank(windows)
    return ranked_RW, (time.process_time() - began) * 1000 / len(ranked_RW)
