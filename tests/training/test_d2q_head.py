"""D2QSeconds: the way back to seconds, and what the duration may change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training import _watch_time_asserts as wt
from tests.training._builders import watch_log
from training.labels import D2Q
from training.watch_time import D2QSeconds, D2QSecondsConfig

SMALL = D2QSecondsConfig(groups=4)


@pytest.fixture
def fitted() -> D2QSeconds:
    torch.manual_seed(0)
    return D2QSeconds(wt.STATE, SMALL).fit_tables(wt.heavy_tailed_log(), seed=0)


class Identity(torch.nn.Module):
    """A network whose state is the quantile it answers."""

    def forward(self, state_N1: Tensor) -> Tensor:
        return state_N1.double().logit().float()


def test_the_quantile_of_a_watch_time_is_restored_to_it() -> None:
    rng = np.random.default_rng(0)
    duration = rng.uniform(5, 100, 4000).astype(np.float32)
    watch = (duration * rng.random(4000)).astype(np.float32)
    head = D2QSeconds(1, SMALL).fit_tables(watch_log(watch, duration), seed=0)
    head.net = Identity()
    watch_N, duration_N = torch.from_numpy(watch), torch.from_numpy(duration)
    quantile_N = head.quantiles.cdf(watch_N, head.groups(duration_N))
    inside = (quantile_N > 0) & (quantile_N < 1)
    got = head.seconds(quantile_N[:, None], duration_N)
    torch.testing.assert_close(got[inside], watch_N[inside], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(head.loss(quantile_N[inside, None], duration_N[inside], watch_N[inside]),
                               torch.tensor(0.0), rtol=0, atol=1e-10)  # fmt: skip


def test_its_target_is_the_label_of_the_same_name() -> None:
    log = wt.heavy_tailed_log()
    label = D2Q(groups=4).fit(log)(torch.from_numpy(log.feedback))
    head = D2QSeconds(1, SMALL).fit_tables(log, seed=0)
    target = head.quantiles.cdf(
        torch.from_numpy(log.watch_time_s), head.groups(torch.from_numpy(log.duration_s))
    )
    torch.testing.assert_close(target, label)


def test_the_duration_changes_the_seconds_and_not_the_rank(fitted: D2QSeconds) -> None:
    """The probe for duration bias: the same state, beside a short and a long video."""
    state, _ = wt.states(50)
    short, long = torch.full((50,), 8.0), torch.full((50,), 200.0)
    rank = fitted.rank(state)
    assert ((rank > 0) & (rank < 1)).all()
    for duration in (short, long):  # whatever the duration, rows come out in the order of their rank
        seconds = fitted.seconds(state, duration)[rank.argsort()]
        assert (seconds.diff() >= 0).all()
    assert fitted.seconds(state, long).mean() > 2 * fitted.seconds(state, short).mean()


def test_knowing_nothing_it_predicts_about_the_groups_median() -> None:
    log = wt.heavy_tailed_log()
    head = D2QSeconds(1, D2QSecondsConfig(groups=4, hidden=0)).fit_tables(log, seed=0)
    duration = torch.from_numpy(log.duration_s)
    wt.fit_exactly(head, torch.zeros(len(log), 1), duration, torch.from_numpy(log.watch_time_s))
    got = head.seconds(torch.zeros(len(log), 1), duration).detach().numpy()
    group = head.groups(duration).numpy()
    for g in range(4):
        low, high = np.quantile(log.watch_time_s[group == g], [0.48, 0.52])
        assert (low <= got[group == g]).all()
        assert (got[group == g] <= high).all()
