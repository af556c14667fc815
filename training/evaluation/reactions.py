"""What one more exposure of an author does to that author's candidates, on real histories."""

# Shape suffixes: B requests.

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from models.arrays import F32, I64
from models.features import FEEDBACK_COLUMNS, SEQUENCE_ID_COLUMNS
from models.vocabulary import FIRST
from training.data import Interactions
from training.encoders import RankerInputs, inputs_for, with_step
from training.gate import AGO_S, GLANCE_S

KINDS: Final = ("hate", "skip", "whole_view")
"""What is done at the exposure: half a second and a hate; half a second; all of it."""
MOST: Final = 4000
"""Histories that are tried."""

_AUTHOR: Final = SEQUENCE_ID_COLUMNS.index("author_id")
_WATCHED, _DURATION, _HATE = (FEEDBACK_COLUMNS.index(n) for n in ("watch_time_s", "duration_s", "hate"))
_CHUNK: Final = 512


def reactions(
    answer: Callable[[RankerInputs], F32], log: Interactions, rows: I64, length: int, *, seed: int = 0
) -> dict[str, float]:
    """Add one exposure of another video of the candidate's author to each request, and count who gains.

    Args:
        answer: requests of one candidate -> `[B]`, what candidates are ordered by.
        log: the exposures; other videos are drawn from all of them.
        rows: whose histories and candidates to take; `MOST` of those with a known author.
        length: most steps of a sequence.
        seed: decides the choices.

    Returns:
        `gains_after_hate`, `gains_after_skip` and `gains_after_whole_view`: the share of candidates that
        stand higher than before. Nothing where no author has two videos.
    """
    random = np.random.default_rng(seed)
    by_author = np.argsort(log.ids[:, _AUTHOR], kind="stable")
    author = log.ids[by_author, _AUTHOR]
    tried = random.permutation(rows[log.ids[rows, _AUTHOR] >= FIRST])[:MOST]
    low, high = (np.searchsorted(author, log.ids[tried, _AUTHOR], side=side) for side in ("left", "right"))
    other = by_author[random.integers(low, high)]
    differs = log.ids[other, 0] != log.ids[tried, 0]
    tried, other = tried[differs], other[differs]
    gained = dict.fromkeys(KINDS, 0)
    for start in range(0, len(tried), _CHUNK):
        part = slice(start, start + _CHUNK)
        x = inputs_for(log, tried[part], length - 1)
        before = answer(x)
        for kind in KINDS:
            feedback = np.zeros((len(other[part]), len(FEEDBACK_COLUMNS)), np.float32)
            duration = log.duration_s[other[part]]
            feedback[:, _DURATION] = duration
            feedback[:, _WATCHED] = duration if kind == "whole_view" else np.minimum(GLANCE_S, duration / 2)
            feedback[:, _HATE] = kind == "hate"
            age = torch.full((len(feedback),), AGO_S)
            gained[kind] += int((answer(with_step(x, log.ids[other[part]], feedback, age)) > before).sum())
    return {f"gains_after_{kind}": count / len(tried) for kind, count in gained.items() if len(tried)}
