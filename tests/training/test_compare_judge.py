"""Lists on a test window: figures by hand, mixes that begin and end at what they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from models.errors import BadInput
from models.metrics import report
from training.compare.labels._front import SHARES, beyond, mixes, places
from training.compare.labels._judge import BINS_S, Window, rank_correlation
from training.data import Interactions, SyntheticConfig, simulate_log
from training.labels import Scale


@pytest.fixture(scope="module")
def log() -> Interactions:
    dataset = simulate_log(SyntheticConfig(users=40, videos=120, exposures=1500, days=4), seed=0).dataset()
    return dataset.interactions(dataset.vocabulary())


@pytest.fixture(scope="module")
def window(log: Interactions) -> Window:
    rows = np.arange(len(log), dtype=np.int64)
    return Window(log, rows, (5, 10), rows)


def test_the_figures_are_those_that_evaluate_reports(log: Interactions, window: Window) -> None:
    score = np.random.default_rng(0).random(len(log))
    found = window.figures(window.values(score))
    want = report(
        user=log.user,
        watch_time_s=log.watch_time_s,
        duration_s=log.duration_s,
        explicit=log.explicit,
        long_view=log.explicit,
        predicted_s=score,
        score=score,
    )
    names = [
        f"{name}@{k}{suffix}" for name in ("nwtg", "neg", "ds") for k in (5, 10) for suffix in ("", "_plain")
    ]
    for name in [*names, "neg@5_positive_users", "neg@10_positive_users"]:
        assert found[name] == pytest.approx(want[name]), name


def test_the_composite_is_the_sum_of_the_objectives_on_hard_slates(log: Interactions, window: Window) -> None:
    score = np.random.default_rng(0).random(len(log)).astype(np.float32)
    found = window.figures(window.values(score))
    watch, duration = Scale().fit(log.watch_time_s), Scale().fit(log.duration_s)
    shown = []
    for user in window.users(10):
        mine = np.flatnonzero(log.user == user)
        shown.append(mine[np.argsort(-score[mine], kind="stable")[:10]])
    w = watch(torch.from_numpy(log.watch_time_s[np.stack(shown)])).numpy()
    d = duration(torch.from_numpy(log.duration_s[np.stack(shown)])).numpy()
    m1, m2 = w.mean(), log.explicit[np.stack(shown)].mean()
    m3 = d.std(axis=1).mean()
    assert found["usage_time@10"] == pytest.approx(m1, rel=1e-5)
    assert found["engagement@10"] == pytest.approx(m2, rel=1e-5)
    assert found["duration_spread@10"] == pytest.approx(m3, rel=1e-4)
    assert found["composite@10"] == pytest.approx(m1 + m2 + m3, rel=1e-4)
    assert found["recommended_duration_s@10"] == pytest.approx(
        log.duration_s[np.stack(shown)].mean(), rel=1e-5
    )


def test_the_histogram_counts_every_listed_row_once(log: Interactions, window: Window) -> None:
    counts = window.histogram(log.duration_s)
    assert sum(counts) == 10 * len(window.users(10))
    assert len(counts) == len(BINS_S)
    assert np.argmax(np.cumsum(counts) > 0) >= np.argmax(np.cumsum(window.exposed()) > 0)


def test_a_k_that_nobody_reaches_is_left_out_and_without_any_the_window_is_refused(log: Interactions) -> None:
    rows = np.flatnonzero(log.user == 0).astype(np.int64)[:8]
    assert Window(log, rows, (5, 10), rows).cuts == (5,)
    assert Window(log, rows, (5, 10), rows).left_out == (10,)
    with pytest.raises(BadInput, match="no user has more than 9 of the 8 exposures"):
        Window(log, rows, (9, 10), rows)


def test_rank_correlation_is_spearmans_with_ties() -> None:
    a, b = (
        np.random.default_rng(0).integers(0, 5, 200).astype(float),
        np.random.default_rng(0).integers(0, 9, 200).astype(float),
    )
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert rank_correlation(a, np.zeros(200)) is None


def test_places_are_those_of_the_users_own_list() -> None:
    user, score = np.array([1, 0, 1, 1, 0, 2]), np.array([0.1, 0.5, 0.9, 0.1, 0.6, 0.3])
    assert places(user, score).tolist() == [0.5, 0.0, 1.0, 0.0, 1.0, 1.0]


def test_the_front_begins_and_ends_at_the_two_that_are_mixed(log: Interactions, window: Window) -> None:
    one, other = log.watch_time_s, np.random.default_rng(0).random(len(log)).astype(np.float32)
    front = mixes(window, one, other)
    assert [point["share"] for point in front] == list(SHARES)
    for score, point in ((one, front[0]), (other, front[-1])):
        for name, value in window.figures(window.values(score)).items():
            assert point[name] == pytest.approx(value), name


def test_a_point_is_beyond_a_front_when_no_mix_is_as_good_in_both() -> None:
    x, y = [1.0, 0.5, 0.0], [0.0, 0.5, 1.0]
    assert beyond(0.6, 0.6, x, y) == pytest.approx(0.1, abs=0.01)
    assert beyond(0.4, 0.4, x, y) == pytest.approx(-0.1, abs=0.01)
    assert beyond(1.1, 0.0, x, y) > 0
