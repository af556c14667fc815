"""DML's percentile rank: a staircase in the watch time, fine at the top; in groups, free of the duration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from models.arrays import F64
from models.errors import BadInput
from tests.training._builders import watch_log, watched_log
from training.data import Interactions
from training.labels import WPR

LOG = watched_log()
FEEDBACK = torch.from_numpy(LOG.feedback)

BOTH = pytest.mark.parametrize("debias", [False, True], ids=["plain", "by duration"])


def masses(rho: float = 0.97, steps: int = 100) -> F64:
    """q, by its definition."""
    q: F64 = np.array([rho**n for n in range(steps)])
    return q / sum(q)


# --- oracle 1: a monotone step function, its values cumulative masses that shrink, the largest 1


@BOTH
def test_every_label_is_a_cumulative_mass_and_the_largest_is_one(debias: bool) -> None:
    label = WPR(debias=debias).fit(LOG)(FEEDBACK).numpy()
    edges = np.cumsum(masses())
    assert np.abs(label[:, None] - edges).min(axis=1).max() < 1e-6
    assert label.max() == 1.0
    assert label[LOG.watch_time_s == LOG.watch_time_s.max()].min() == 1.0


def test_groups_have_their_masses_and_are_coarse_at_the_bottom_and_fine_at_the_top() -> None:
    """20 000 watch times that all differ: row i belongs to the group that its rank falls into."""
    watch = np.arange(1.0, 20_001.0)
    label = WPR().fit(watch_log(watch, [10.0] * 20_000))(
        torch.from_numpy(watch_log(watch, [10.0] * 20_000).feedback)
    )
    _, found = np.unique(label.numpy(), return_counts=True)
    assert len(found) == 100
    np.testing.assert_allclose(found / 20_000, masses(), atol=1.01 / 20_000)
    assert (np.diff(found) <= 1).all()
    assert found[0] > 15 * found[-1]


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(0.75, 1.0), st.lists(st.integers(0, 30), min_size=2, max_size=60))
@example(2, 1.0, [0, 0, 1, 2])
def test_tied_watch_times_share_a_group_and_none_is_ranked_below_its_share(
    steps: int, rho: float, watch: list[int]
) -> None:
    """The label is the first edge at or above the share of rows that are watched less, ties counted in."""
    if len(set(watch)) < 2:
        watch = [*watch, max(watch) + 1]
    log = watch_log([float(w) for w in watch], [10.0] * len(watch))
    label = WPR(steps=steps, rho=rho).fit(log)(torch.from_numpy(log.feedback)).numpy()
    edges = np.cumsum(masses(rho, steps))
    for w in set(watch):
        here = label[np.array(watch) == w]
        assert np.ptp(here) == 0
        below = (np.array(watch) < w).mean()
        # Rows of this watch time span (below, at]: the group is the last that one of them reaches.
        at = (np.array(watch) <= w).mean()
        groups = edges[(edges > below + 1e-6) & (edges <= at + 1e-6)]
        above = edges[edges > below - 1e-6]
        # The rows behind an edge at `below` are of the next group, but for what rounding makes of the edge.
        want = [groups[-1]] if len(groups) else above[: 1 + (above[0] < below + 1e-6)]
        assert np.abs(here[0] - np.array(want)).min() <= 1e-5


# --- oracle 3: equal masses, as many as rows, are D2Q's rank


def test_with_a_group_a_row_and_equal_masses_it_is_the_rank_of_d2q() -> None:
    random = np.random.default_rng(0)
    log = watch_log(random.gamma(2.0, 9.0, 500), random.uniform(5, 90, 500))
    label = WPR(steps=500, rho=1.0).fit(log)(torch.from_numpy(log.feedback)).numpy()
    np.testing.assert_allclose(label, stats.rankdata(log.watch_time_s, "max") / 500, atol=1e-6)


# --- oracle 2, for the rank: grouping takes the duration out


def test_within_duration_groups_the_rank_says_nothing_of_the_duration() -> None:
    plain, debiased = (WPR(debias=d).fit(LOG)(FEEDBACK).numpy() for d in (False, True))
    assert abs(stats.spearmanr(debiased, LOG.duration_s).statistic) < 0.03
    assert stats.spearmanr(plain, LOG.duration_s).statistic > 0.3


def test_a_thin_duration_group_is_ranked_among_all_rows() -> None:
    log = watch_log([*range(97), 2.0, 3.0, 4.0], [10.0] * 97 + [300.0] * 3)
    row = torch.zeros(1, 8)
    row[0, :2] = torch.tensor([4.0, 300.0])
    assert float(WPR(debias=True, min_rows=50).fit(log)(row)) < 0.1
    assert float(WPR(debias=True, min_rows=2).fit(log)(row)) == 1.0


# --- oracle 4: only the order of watch times matters


@BOTH
@pytest.mark.parametrize("change", [lambda w: 3 * w + 7, np.sqrt, np.expm1], ids=["linear", "root", "exp"])
def test_labels_do_not_change_under_an_increasing_function_of_the_watch_time(
    debias: bool, change: np.ufunc
) -> None:
    """Fitted and applied on transformed watch times, rounded to what float32 keeps apart."""
    watch = np.round(np.minimum(LOG.watch_time_s, 60.0) * 4) / 4  # e^60 fits into a float32
    before = watch_log(watch, LOG.duration_s)
    after = watch_log(change(watch), LOG.duration_s)
    assert len(np.unique(after.watch_time_s)) == len(np.unique(before.watch_time_s))
    want, got = (WPR(debias=debias).fit(log)(torch.from_numpy(log.feedback)) for log in (before, after))
    torch.testing.assert_close(got, want, rtol=0, atol=0)


# --- oracle 5: fitted on train, applied to what comes


@BOTH
def test_one_new_event_is_labelled_by_the_tables_of_train(debias: bool) -> None:
    maker = WPR(debias=debias).fit(LOG)
    tables = {name: tensor.clone() for name, tensor in maker.state_dict().items()}
    row = FEEDBACK[17:18].clone()
    assert float(maker(row)) == float(maker(FEEDBACK)[17])
    row[0, 0] = 1e9
    assert float(maker(row)) == 1.0
    row[0, 0] = 0.0
    assert float(maker(row)) > 0
    for name, tensor in maker.state_dict().items():
        torch.testing.assert_close(tensor, tables[name], rtol=0, atol=0, equal_nan=True)


# --- back to seconds


@BOTH
def test_seconds_lie_in_the_group_that_the_label_names(debias: bool) -> None:
    maker = WPR(debias=debias).fit(LOG)
    label = maker(FEEDBACK)
    seconds = maker.seconds(label, FEEDBACK[:, 1])
    # The upper bound of a group is the longest watch in it: back there, and labelled the same again.
    assert bool((seconds >= FEEDBACK[:, 0] - 1e-4).all())
    again = FEEDBACK.clone()
    again[:, 0] = seconds
    torch.testing.assert_close(maker(again), label, rtol=0, atol=1e-6)


def test_between_two_bounds_the_seconds_are_linear() -> None:
    log = watch_log([float(i) for i in range(1, 101)], [10.0] * 100)
    maker = WPR(steps=4, rho=1.0).fit(log)
    share = torch.tensor([-0.5, 0.0, 0.125, 0.25, 0.375, 1.0, 2.0])
    got = maker.seconds(share, torch.full((7,), 10.0))
    assert got.tolist() == pytest.approx([1.0, 1.0, 13.0, 25.0, 37.5, 100.0, 100.0])


# --- what it cannot do


@pytest.mark.parametrize(
    ("debias", "log", "match"),
    [
        (False, watch_log([4.0] * 60, [9.0] * 60), "every training row has the same, 4 s"),
        (True, watch_log([*range(60)], [9.0] * 60), "every video is 9 s long; use dml_wpr"),
    ],
)
def test_what_it_cannot_fit_is_refused_in_one_line(debias: bool, log: Interactions, match: str) -> None:
    with pytest.raises(BadInput, match=match) as refused:
        WPR(debias=debias).fit(log)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("rho", "steps"), [(0.0, 100), (1.01, 100), (0.97, 0), (0.5, 40)])
def test_masses_that_grow_or_vanish_are_refused(rho: float, steps: int) -> None:
    with pytest.raises(ValueError, match="`rho`"):
        WPR(rho=rho, steps=steps)
