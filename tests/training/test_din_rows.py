"""What DIN reads of a row is what `Interactions.history` says, alone or on a shared timeline."""

from __future__ import annotations

import numpy as np
import torch

from tests.training._builders import DIN_SIZES, log_of
from training.data import Interactions
from training.encoders._din import DIN
from training.encoders._din_rows import DinRows, slates

EDGES = np.array([50.0, 120.0], np.float32)


def log(rows: int = 60, users: int = 4, seed: int = 0) -> Interactions:
    """Few distinct moments, so that some rows of a user tie."""
    rng = np.random.default_rng(seed)
    return log_of(rng.integers(users, size=rows).tolist(), rng.integers(25, size=rows).tolist(), seed)


def test_a_rows_history_is_that_of_the_log_ties_left_out() -> None:
    dataset = log()
    rows = np.arange(len(dataset))
    got = DinRows(dataset, EDGES, 5).alone(rows)
    want = dataset.history(rows, 5)
    np.testing.assert_array_equal(got.history[..., 0].numpy(), want.sequence_ids[..., 0])
    np.testing.assert_array_equal(got.history[..., 2].numpy(), want.sequence_ids[..., 2])
    group = np.digitize(want.sequence_feedback[..., 1], EDGES) + 1
    np.testing.assert_array_equal(
        got.history[..., 1].numpy(), np.where(want.sequence_ids[..., 0] == 0, 0, group)
    )
    np.testing.assert_array_equal(got.candidate[:, 0, 0].numpy(), dataset.ids[:, 0])
    np.testing.assert_array_equal(got.user.numpy(), dataset.user)


def test_on_a_shared_timeline_every_row_scores_as_it_does_alone() -> None:
    dataset, rng = log(), np.random.default_rng(1)
    rows = np.sort(rng.choice(len(dataset), 40, replace=False))
    prepared = DinRows(dataset, EDGES, 6)
    torch.manual_seed(0)
    model = DIN(users=4, videos=20, groups=4, tags=4, config=DIN_SIZES).double()
    users = slates(dataset, rows, more_than=5)
    assert int(users.mask.sum(-1).min()) > 5
    assert not bool(users.mask.all())  # padding is part of what is tested
    together = model(*prepared.together(users))[users.mask]
    alone = model(*prepared.alone(users.rows[users.mask.numpy()]))[:, 0]
    torch.testing.assert_close(together, alone)


def test_slates_hold_each_row_of_a_long_enough_user_once() -> None:
    dataset = log()
    rows = np.arange(0, len(dataset), 2)
    count = np.bincount(dataset.user[rows], minlength=4)
    users = slates(dataset, rows, more_than=int(count.min()))
    want = rows[np.isin(dataset.user[rows], np.flatnonzero(count > count.min()))]
    np.testing.assert_array_equal(users.rows[users.mask.numpy()], want)


def test_no_user_with_enough_rows_gives_no_slates() -> None:
    dataset = log()
    assert slates(dataset, np.arange(len(dataset)), more_than=1000).rows.shape == (0, 0)
    assert slates(dataset, np.zeros(0, np.int64), more_than=1).rows.shape == (0, 0)
