"""Vectors of videos: near where audiences are shared, blind to what was not among the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.arrays import I64
from models.vocabulary import FIRST
from tests.training._builders import log_of
from training.data import Interactions
from training.encoders._co_visitation import WIDTH, CoVisitation
from training.encoders._standardised import Standardised

CAMPS, EACH = 40, 2
USERS, VIDEOS = 4 * CAMPS, EACH * CAMPS


@pytest.fixture(scope="module")
def log() -> Interactions:
    """Users of each camp are shown its videos alone, so two camps have no audience in common."""
    user = np.repeat(np.arange(USERS), EACH)
    return showing(user, FIRST + EACH * (user % CAMPS) + np.tile(np.arange(EACH), USERS))


def showing(user: I64, video: I64) -> Interactions:
    """A log of these videos in this order, and nothing before it."""
    log = log_of(user.tolist(), list(range(len(user))))
    ids, users = log.ids.copy(), len(log.user_ids)
    ids[:, 0] = video
    empty = np.zeros((users, 0), np.int64)
    return replace(log, ids=ids, history_ids=empty, history_feedback=np.zeros((users, 0, 2), np.float32))


def fitted(log: Interactions, rows: I64 | None = None) -> torch.Tensor:
    rows = np.arange(len(log)) if rows is None else rows
    return CoVisitation(FIRST + VIDEOS).fit(log, rows).vector


def test_videos_of_one_audience_are_nearer_than_those_of_two(log: Interactions) -> None:
    shown = torch.nn.functional.normalize(fitted(log)[FIRST:, :32], dim=1)
    near = shown @ shown.T
    camp = torch.arange(VIDEOS) // EACH
    same = camp[:, None] == camp
    assert near[same].mean() > near[~same].mean() + 0.5


def test_the_history_before_the_log_counts_as_its_rows_do(log: Interactions) -> None:
    """One half of every user's rows moved to the time before the log: the audiences stay the same."""
    early = np.arange(len(log)) % EACH < EACH // 2
    moved = replace(
        log.take(np.flatnonzero(~early)),
        history_ids=log.ids[early, 0].reshape(USERS, -1),
        history_feedback=np.zeros((USERS, EACH // 2, 2), np.float32),
    )
    vectors = fitted(moved)[FIRST:, :32]
    near = torch.nn.functional.normalize(vectors, dim=1) @ torch.nn.functional.normalize(vectors, dim=1).T
    expected = torch.nn.functional.normalize(fitted(log)[FIRST:, :32], dim=1)
    torch.testing.assert_close(near, expected @ expected.T, atol=1e-3, rtol=0)


def test_rows_outside_of_the_fit_leave_no_trace(log: Interactions) -> None:
    rows = np.arange(len(log) // 2)
    changed = replace(log, feedback=log.feedback.copy())
    changed.feedback[len(rows) :] = [500.0, 10.0, 1, 1, 1, 1, 1, 1]
    torch.testing.assert_close(fitted(log, rows), fitted(changed, rows), atol=0, rtol=0)


def test_a_video_that_nobody_was_shown_has_zeros(log: Interactions) -> None:
    vector = fitted(log, np.flatnonzero(log.ids[:, 0] != FIRST))
    assert not vector[: FIRST + 1].any()
    assert vector[FIRST + 1 :].any(dim=1).all()


def test_fewer_videos_than_columns_leave_zeros() -> None:
    log = showing(np.array([0, 0, 1]), FIRST + np.array([0, 1, 0]))
    vector = CoVisitation(FIRST + 2).fit(log, np.arange(3)).vector
    assert vector.shape == (FIRST + 2, WIDTH)
    assert vector.isfinite().all()


def test_standardised_columns_have_mean_0_and_deviation_1_and_constant_ones_keep_their_scale() -> None:
    x = torch.stack([torch.randn(500) * 30 + 7, torch.full((500,), 4.0)], dim=1)
    scaled = Standardised(2).fit(x)(x)
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled[:, 0].std(correction=0), torch.tensor(1.0))
