"""Steps of a prepared log: sessions, states, candidates and rewards of its exposures."""

# Shape suffixes: N rows, B rows of a part, L steps of a sequence, E columns of a vector, C candidates.

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from models.arrays import F32, I64
from models.schema import SESSION_GAP_MS
from models.vocabulary import PADDING
from training.data import Interactions
from training.policies._steps import Steps

_HOUR_MS: Final = 3_600_000
_ROWS: Final = 2048
"""Rows whose sequences are in memory at once."""


def session_numbers(user_N: I64, timestamp_ms_N: I64) -> I64:
    """Number the sessions of exposures that are sorted by user and time, `[N]`."""
    new_user = user_N[1:] != user_N[:-1]
    silence = np.diff(timestamp_ms_N) > SESSION_GAP_MS
    return np.cumsum(np.append(False, new_user | silence), dtype=np.int64)


def log_steps(
    log: Interactions,
    rows: I64,
    reward_N: F32,
    vectors: F32,
    *,
    candidates: int = 20,
    length: int = 30,
    block: int = 32_768,
    seed: int = 0,
) -> Iterator[Steps]:
    """Yield the decisions of a log in blocks of whole users, for `write_steps`.

    * A session ends by 30 minutes of silence.
    * The state is `history_states`.
    * The log does not say what else could have been shown: the other candidates are videos shown to any user
      in the same hour, as often as they were, so that propensities are unknown.

    Args:
        log: any prepared log.
        rows: the exposures to decide on, ascending.
        reward_N: of each of `rows`: seconds watched, or the label of any label maker.
        vectors: `[V, E]` by vocabulary index; may be a memory map.
        candidates: C, the shown one included.
        length: most steps of a sequence that the state is made from.
        block: rows of a block, about.
        seed: of the candidates.
    """
    random = np.random.default_rng(seed)
    user_N, time_N, video_N = log.user[rows], log.timestamp_ms[rows], log.ids[rows, 0]
    session_N = session_numbers(user_N, time_N)
    hour_N = time_N // _HOUR_MS
    pool = np.argsort(hour_N, kind="stable")
    hours = hour_N[pool]
    first = log.first_row()
    starts = np.flatnonzero(np.append(True, user_N[1:] != user_N[:-1]))
    cuts = np.unique(starts[np.searchsorted(starts, np.arange(0, len(rows), block), side="right") - 1])
    for start, end in zip(cuts, [*cuts[1:], len(rows)], strict=True):
        part = slice(start, end)
        low, high = (np.searchsorted(hours, hour_N[part], side) for side in ("left", "right"))
        drawn = random.integers(low[:, None], high[:, None], (end - start, candidates))
        candidate_BC = video_N[pool[drawn]]
        same = candidate_BC == video_N[part, None]
        candidate_BC[same] = random.choice(video_N, int(same.sum()))
        action_B = random.integers(candidates, size=end - start)
        candidate_BC[np.arange(end - start), action_B] = video_N[part]
        yield Steps(
            user=user_N[part],
            session=session_N[part],
            state=history_states(log, rows[part], session_N[part], vectors, length=length, first=first),
            candidates=candidate_BC,
            action=action_B,
            reward=reward_N[part].astype(np.float32),
            propensity=np.full(end - start, np.nan, np.float32),
        )


def history_states(
    log: Interactions, rows: I64, session_N: I64, vectors: F32, *, length: int, first: I64 | None = None
) -> F32:
    """Return what is known of a user before each exposure, `[N, 3 E + 5]`.

    The mean vector of the sequence's videos, the same weighted by watch ratio (at most 1), and the last
    video's vector; mean and last log watch time, and logarithms of the steps of the sequence, of the seconds
    since the last, and of the exposure's number in its session.

    Args:
        log: as in `log_steps`.
        rows: whole users, ascending.
        session_N: of `rows`.
        vectors, length: as in `log_steps`.
        first: `log.first_row()`.
    """
    at_N = np.arange(len(rows))
    begins = np.flatnonzero(np.append(True, session_N[1:] != session_N[:-1]))
    number_N = at_N - begins[np.searchsorted(begins, at_N, side="right") - 1]
    parts = []
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        history = log.history(rows[part], length, first)
        video_BL = history.sequence_ids[..., 0]
        if not video_BL.shape[1]:
            parts.append(np.zeros((len(video_BL), 3 * vectors.shape[1] + 5), np.float32))
            continue
        known_BL = (video_BL != PADDING).astype(np.float32)
        vector_BLE = vectors[video_BL] * known_BL[..., None]
        watched_BL, duration_BL = history.sequence_feedback[..., 0], history.sequence_feedback[..., 1]
        ratio_BL = np.clip(watched_BL / np.maximum(duration_BL, 1e-3), 0, 1) * known_BL
        count_B1 = known_BL.sum(axis=1, keepdims=True)
        log_watched_BL = np.log1p(watched_BL) * known_BL
        columns = (
            vector_BLE.sum(axis=1) / np.maximum(count_B1, 1),
            np.einsum("bl,ble->be", ratio_BL, vector_BLE) / np.maximum(count_B1, 1),
            vector_BLE[:, -1],
            log_watched_BL.sum(axis=1, keepdims=True) / np.maximum(count_B1, 1) / 3,
            log_watched_BL[:, -1:] / 3,
            np.log1p(count_B1) / 3,
            np.log1p(history.sequence_age_s[:, -1:]) / 10,
            np.log1p(number_N[part, None]) / 2,
        )
        parts.append(np.concatenate(columns, axis=1).astype(np.float32))
    return np.concatenate(parts)
