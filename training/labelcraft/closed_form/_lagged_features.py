"""What was known of an exposure on the day before: features of a recommender that never looks ahead."""

# Shape suffixes: N rows, V values of an exposure, F features.

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.arrays import F32, F64, I64
from models.features import SEQUENCE_ID_COLUMNS
from training.data import Interactions

_PRIOR: Final = 5.0
"""Exposures that a mean over few is drawn to the mean of all with."""
_CLIP: Final = 5.0
"""Deviations beyond which a feature says no more."""
_HINGES_S: Final = (10.0, 30.0, 60.0, 120.0)
"""Durations at which a feature switches on."""
_CAP_S: Final = 300.0
"""Watch time beyond which a mean hears no more of one exposure."""
_BLOCK: Final = 7
"""Features of one key: the number of exposures, and the means of `_values`, log duration last."""
VIDEO_WATCH_TIME: Final = 1
"""Column of a video's mean watch time, capped."""
VIDEO_FEEDBACK: Final = 4
"""Column of a video's share of explicit feedback."""
_CROSSED: Final = 30
"""Features whose products are features, too: those of video, author and user, and the duration."""


def lagged_features(log: Interactions, day: I64, scaled_before: int) -> F32:
    """Return `[N, F]` features of each row from the rows of earlier days.

    Of the video, the author, the tag, the user, and the user with the author and with the tag: how many
    exposures there were, and the means of watch time, log watch time, watched share, explicit feedback, hates
    and log duration. Besides, the duration.

    Args:
        log: N exposures.
        day: `[N]` the day of each.
        scaled_before: features have mean 0 and deviation 1 over the rows of the days before this one.

    Returns:
        Without a constant.
    """
    video, author, tag = (log.ids[:, SEQUENCE_ID_COLUMNS.index(c)] for c in ("video_id", "author_id", "tag"))
    value_NV = _values(log)
    parts = [
        _before(key, day, value_NV)
        for key in (video, author, log.user, tag, _pair(log.user, author), _pair(log.user, tag))
    ]
    duration = log.duration_s.astype(np.float64)
    parts.append(np.stack([np.log1p(duration), duration, *(duration > h for h in _HINGES_S)], axis=1))
    feature_NF = np.concatenate(parts, axis=1)
    early_NF = feature_NF[day < scaled_before]
    deviation_F = early_NF.std(axis=0)
    feature_NF = (feature_NF - early_NF.mean(axis=0)) / np.where(deviation_F > 0, deviation_F, 1.0)
    out: F32 = feature_NF.clip(-_CLIP, _CLIP).astype(np.float32)
    return out


def with_products(feature_NF: F32) -> F64:
    """Return `[N, 1 + F + products]`: a constant, the features, and the products of pairs of some of them."""
    wide_NF, crossed = feature_NF.astype(np.float64), _crossed(feature_NF.shape[1])
    products = [wide_NF[:, i, None] * wide_NF[:, crossed[n:]] for n, i in enumerate(crossed)]
    return np.concatenate([np.ones((len(wide_NF), 1)), wide_NF, *products], axis=1)


def knows_duration(features: int) -> npt.NDArray[np.bool_]:
    """Return `[1 + F + products]` which columns of `with_products` are made of durations, for F features."""
    tail = 2 + len(_HINGES_S)
    known_F = np.arange(features) % _BLOCK == _BLOCK - 1
    known_F[-tail:] = True
    crossed = _crossed(features)
    products = [known_F[i] | known_F[crossed[n:]] for n, i in enumerate(crossed)]
    return np.concatenate([[False], known_F, *products])


def _crossed(features: int) -> list[int]:
    """Counts and means of video, author, user, and the logarithm of the duration."""
    return [*range(min(_CROSSED - 1, features - 1)), features - len(_HINGES_S) - 2]


def _values(log: Interactions) -> F64:
    watched, duration = log.watch_time_s.astype(np.float64), log.duration_s.astype(np.float64)
    share = np.minimum(watched / duration, 2.0)
    columns = (
        np.minimum(watched, _CAP_S),
        np.log1p(watched),
        share,
        log.explicit,
        log.hate,
        np.log1p(duration),
    )
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)


def _pair(first: I64, second: I64) -> I64:
    return first * (int(second.max(initial=0)) + 1) + second


def _before(key: I64, day: I64, value_NV: F64) -> F64:
    """Return `[N, 1 + V]`: the log of the number of earlier exposures of the same key, and their means."""
    _, key = np.unique(key, return_inverse=True)
    size, (rows, values) = int(key.max(initial=-1)) + 1, value_NV.shape
    count, total = np.zeros(size), np.zeros((size, values))
    out = np.zeros((rows, 1 + values))
    for today in np.unique(day):
        row = np.flatnonzero(day == today)
        known = key[row]
        prior = total.sum(axis=0) / max(count.sum(), 1.0)
        out[row, 0] = np.log1p(count[known])
        out[row, 1:] = (total[known] + _PRIOR * prior) / (count[known] + _PRIOR)[:, None]
        count += np.bincount(known, minlength=size)
        for column in range(values):
            total[:, column] += np.bincount(known, value_NV[row, column], minlength=size)
    return out
