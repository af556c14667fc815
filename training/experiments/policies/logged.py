"""Decisions of a real log: what policies are fitted on, and what they are estimated on."""

# Shape suffixes: N rows, V rows of the vocabulary, E columns of a vector.

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from models.arrays import F32, F64, I64
from models.metrics import long_view
from training.data import Interactions
from training.experiments.data import ExperimentData
from training.experiments.policies.config import LogConfig
from training.policies import Steps, log_steps

_SHRINKAGE = 10.0


class Decisions(NamedTuple):
    """Steps of a part of a log."""

    steps: Steps
    """The reward is seconds watched."""
    label: F32
    """`[N]` long views."""


def video_vectors(log: Interactions, rows: I64, videos: int) -> F32:
    """Return how videos, their authors and their tags did in some rows, `[V, 13]`.

    Shrunk means of log watch time, watch ratio (at most 1) and long view, and the log of the exposures, of
    the video, its author and its tag; and the video's mean log duration. Each column is standardised over the
    rows; videos without a row are average.
    """
    watched, duration = log.watch_time_s[rows], log.duration_s[rows]
    outcome_N3 = np.stack(
        [np.log1p(watched), np.minimum(watched / duration, 1.0), long_view(watched, duration)], axis=1
    )
    columns_V: list[F64] = []
    for key in range(3):
        id_N = log.ids[rows, key]
        group_V = np.ones(videos, np.int64)
        group_V[log.ids[rows, 0]] = id_N
        count_K = np.bincount(id_N, minlength=int(group_V.max()) + 1)
        columns_V.append(np.log1p(count_K)[group_V])
        for outcome_N in outcome_N3.T:
            total_K = np.bincount(id_N, outcome_N, minlength=len(count_K)) + _SHRINKAGE * outcome_N.mean()
            columns_V.append((total_K / (count_K + _SHRINKAGE))[group_V])
    log_duration_V = np.full(videos, float(np.log(duration).mean()))
    log_duration_V[log.ids[rows, 0]] = np.log(duration)
    vector_VE = np.stack([*columns_V, log_duration_V], axis=1)
    seen_NE = vector_VE[log.ids[rows, 0]]
    out: F32 = ((vector_VE - seen_NE.mean(axis=0)) / (seen_NE.std(axis=0) + 1e-6)).astype(np.float32)
    return out


def decisions(data: ExperimentData, rows: I64, vectors: F32, config: LogConfig, *, seed: int) -> Decisions:
    """Return the decisions of some rows, with candidates of the same hour."""
    log = data.log
    watched, duration = log.watch_time_s[rows], log.duration_s[rows]
    reward_N = np.minimum(watched, np.float32(config.most_watch_time_s))
    blocks: Iterator[Steps] = log_steps(
        log, rows, reward_N, vectors, candidates=config.candidates, length=config.length, seed=seed
    )
    steps = Steps(*(np.concatenate(column) for column in zip(*blocks, strict=True)))
    return Decisions(steps, long_view(watched, duration).astype(np.float32))
