"""DML as a regressor: its target is the label of the same name, and only the table knows the duration."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tests.training import _watch_time_asserts as wt
from training.labels import WPR, ProgressViewByDuration
from training.strata import DurationGroups
from training.watch_time import DML, DMLConfig

LOG = wt.heavy_tailed_log()
WATCHED, DURATION = torch.from_numpy(LOG.watch_time_s), torch.from_numpy(LOG.duration_s)


class Answers(nn.Module):
    """A network whose state is what it answers: rank, effective view, long view."""

    def forward(self, state_N3: Tensor) -> Tensor:
        return state_N3.double().logit().float()


def oracle(views: float = 1.0, steps: int = 100) -> DML:
    head = DML(3, DMLConfig(groups=4, views=views, steps=steps)).fit_tables(LOG, seed=0)
    head.net = Answers()
    return head


def labels() -> Tensor:
    """`[N, 3]` the labels of its paper: rank, effective view, long view, each by duration."""
    makers = (WPR(debias=True, groups=4), ProgressViewByDuration("ev", 4), ProgressViewByDuration("lv", 4))
    return torch.stack([maker.fit(LOG)(torch.from_numpy(LOG.feedback)) for maker in makers], 1)


def test_its_loss_is_least_at_the_labels_of_its_paper() -> None:
    truth = labels().clamp(1e-6, 1 - 1e-6)
    best = oracle().loss(truth, DURATION, WATCHED)
    assert best < 1e-4
    for column in range(3):
        wrong = truth.clone()
        wrong[:, column] = wrong[:, column].roll(1)
        assert oracle().loss(wrong, DURATION, WATCHED) > best + 0.01


def test_without_their_weight_the_progress_labels_do_not_count() -> None:
    wrong = labels().clamp(1e-6, 1 - 1e-6)
    wrong[:, 1:] = 0.5
    assert oracle(views=0.0).loss(wrong, DURATION, WATCHED) < 1e-4


def test_a_rank_is_restored_to_a_watch_time_of_that_rank() -> None:
    head, group = oracle(steps=20), DurationGroups(4).fit(LOG.duration_s)(DURATION)
    rank = head.quantiles.rank(WATCHED, group)
    inside = rank < 1 - 1e-6
    got = head.seconds(rank[inside, None].expand(-1, 3), DURATION[inside])
    torch.testing.assert_close(head.quantiles.rank(got * (1 - 1e-4), group[inside]), rank[inside])


def test_the_duration_changes_the_seconds_and_not_the_rank() -> None:
    torch.manual_seed(0)
    head = DML(wt.STATE, DMLConfig(groups=4)).fit_tables(LOG, seed=0)
    state, _ = wt.states(50)
    order = head.rank(state).argsort()
    by_duration = [head.seconds(state, torch.full((50,), d))[order] for d in (8.0, 200.0)]
    assert all((seconds.diff() >= 0).all() for seconds in by_duration)
    assert by_duration[1].mean() > 2 * by_duration[0].mean()


def test_groups_of_watch_times_are_finer_at_the_top() -> None:
    mass = np.diff(oracle().quantiles.share.numpy())
    assert (np.diff(mass) < 0).all()
