"""Long views of users in their order, as windows of videos and as rows of tokens."""

# Shape suffixes: E long views, B rows, M videos of a row, T tokens of a video, L tokens of a row.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.arrays import F32, I64, Bools
from models.features import FEEDBACK_COLUMNS, HISTORY_COLUMNS
from models.metrics import long_view
from models.vocabulary import FIRST, PADDING
from training.data import Interactions
from training.language._semantic_ids import ACTIONS, START, SemanticIds, action_tokens

BEFORE_THE_LOG = -1


class LongViews(NamedTuple):
    """E long views, all of a user in the order of time, one user after the other."""

    user: I64
    """`[E]`"""
    video: I64
    """`[E]`"""
    action: I64
    """`[E]` index into `ACTIONS`."""
    row: I64
    """`[E]` of the log, or `BEFORE_THE_LOG`."""
    timestamp_ms: I64
    """`[E]`, or `BEFORE_THE_LOG`."""


class Windows(NamedTuple):
    """Videos of a user, padded on the left with 0."""

    video: I64
    """`[B, M]`"""
    action: I64
    """`[B, M]`"""
    is_target: Bools
    """`[B, M]` which videos are predicted from those before them."""

    def take(self, rows: I64) -> Windows:
        """Return some windows, cut to the longest of them."""
        video_BM = self.video[rows]
        longest = int((video_BM != PADDING).sum(axis=1).max(initial=0))
        first = video_BM.shape[1] - longest
        return Windows(video_BM[:, first:], self.action[rows, first:], self.is_target[rows, first:])


def read_long_views(log: Interactions) -> LongViews:
    """Return the long views of known videos of a log, and those before it."""
    like = FEEDBACK_COLUMNS.index("like")
    is_long = long_view(log.watch_time_s, log.duration_s) & (log.ids[:, 0] >= FIRST)
    row_N = np.flatnonzero(is_long).astype(np.int64)
    whole_N = log.watch_time_s[row_N] >= log.duration_s[row_N]
    action_N = np.where(log.feedback[row_N, like] > 0, 2, whole_N.astype(np.int64))
    flag = log.history_feedback[..., HISTORY_COLUMNS.index("long_view")] > 0
    user_M, at_M = np.nonzero((log.history_ids >= FIRST) & flag)
    liked_M: F32 = log.history_feedback[user_M, at_M, HISTORY_COLUMNS.index("like")]
    earlier_M = np.full(len(user_M), BEFORE_THE_LOG, np.int64)
    out = LongViews(
        user=np.concatenate([user_M, log.user[row_N]]),
        video=np.concatenate([log.history_ids[user_M, at_M], log.ids[row_N, 0]]),
        action=np.concatenate([np.where(liked_M > 0, 2, len(ACTIONS) - 1), action_N]),
        row=np.concatenate([earlier_M, row_N]),
        timestamp_ms=np.concatenate([earlier_M, log.timestamp_ms[row_N]]),
    )
    order = np.argsort(out.user, kind="stable")
    return LongViews(*(column[order] for column in out))


def histories(views: LongViews, target_B: I64, length: int) -> Windows:
    """Return what users watched before some of their long views, at most `length` of it.

    Long views of the same millisecond are left out: their order is unknown.
    """
    first_B = np.searchsorted(views.user, views.user[target_B], side="left")
    end_B, now_B = target_B.copy(), views.timestamp_ms[target_B]
    while True:
        tied_B = (end_B > first_B) & (views.timestamp_ms[np.maximum(end_B - 1, 0)] >= now_B)
        if not tied_B.any():
            break
        end_B[tied_B] -= 1
    none_E = np.zeros(len(views.user), np.bool_)
    return _windows(views, np.maximum(first_B, end_B - length), end_B, none_E)


def training_windows(views: LongViews, known_E: Bools, is_target_E: Bools, length: int) -> Windows:
    """Cut the known long views of every user into windows, newest last.

    Every window has at most `length` videos that may be targets, and one before them: a long view is in
    that part of one window, except for a user's first, which has no history.

    Args:
        views: long views.
        known_E: those to read; the others are left out.
        is_target_E: those to learn.
        length: most targets of a window.

    Returns:
        The windows that have a target.
    """
    fitted = LongViews(*(column[known_E] for column in views))
    _, start_U, count_U = np.unique(fitted.user, return_index=True, return_counts=True)
    starts, ends = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for behind in range(0, int(count_U.max(initial=0)), length):
        more = count_U - behind > 1
        end_U = (start_U + count_U - behind)[more]
        starts.append(np.maximum(start_U[more], end_U - length - 1))
        ends.append(end_U)
    start_B, end_B = np.concatenate(starts), np.concatenate(ends)
    windows = _windows(fitted, start_B, end_B, is_target_E[known_E])
    windows.is_target[np.arange(len(start_B)), windows.video.shape[1] - (end_B - start_B)] = False
    return windows.take(np.flatnonzero(windows.is_target.any(axis=1)))


def _windows(views: LongViews, start_B: I64, end_B: I64, is_target_E: Bools) -> Windows:
    longest = int((end_B - start_B).max(initial=0))
    index_BM = end_B[:, None] - longest + np.arange(longest)
    real_BM = index_BM >= start_B[:, None]
    index_BM = np.where(real_BM, index_BM, 0)
    video_BM = np.where(real_BM, views.video[index_BM], PADDING)
    action_BM = np.where(real_BM, views.action[index_BM], 0)
    return Windows(video_BM, action_BM, real_BM & is_target_E[index_BM])


def token_rows(windows: Windows, ids: SemanticIds, *, actions: bool) -> I64:
    """Return windows as prompts, `[B, 1 + M (T + 1)]` tokens, or `[B, 1 + M T]` without actions.

        padding … START, tokens of a video, what the user did with it, tokens of a video, …

    Without a video the prompt is START alone, which is the prompt without the history.

    Args:
        windows: the histories.
        ids: tokens of the videos.
        actions: whether what a user did follows each video.
    """
    real_BM = windows.video != PADDING
    token_BMT = ids.token[windows.video]
    if actions:
        did_BM1 = np.where(real_BM, action_tokens(windows.action), PADDING)[..., None]
        token_BMT = np.concatenate([token_BMT, did_BM1], axis=2)
    rows, width = len(token_BMT), token_BMT.shape[2]
    row_BL = np.concatenate([np.zeros((rows, 1), np.int64), token_BMT.reshape(rows, -1)], axis=1)
    row_BL[np.arange(rows), (~real_BM).sum(axis=1) * width] = START
    return row_BL
