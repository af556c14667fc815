"""Slates on a test window: figures by hand, and mixtures that begin and end at what they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from models.errors import BadInput
from models.metrics import report
from training.data import Interactions, SyntheticConfig, simulate_log
from training.evaluation.slates import (
    BINS_S,
    SHARES,
    SlateEvaluator,
    interpolate_rankings,
    margin_over_frontier,
    rank_correlation,
    rank_percentiles,
)
from training.labels import Scale


@pytest.fixture(scope="module")
def log() -> Interactions:
    config = SyntheticConfig(users=40, videos=120, exposures=1500, days=4)
    dataset = simulate_log(config, seed=0).dataset()
    return dataset.interactions(dataset.vocabulary())


@pytest.fixture(scope="module")
def slates(log: Interactions) -> SlateEvaluator:
    rows = np.arange(len(log), dtype=np.int64)
    return SlateEvaluator(log, rows, (5, 10), rows)


def test_the_figures_are_those_that_evaluate_reports(slates: SlateEvaluator) -> None:
    score = np.random.default_rng(0).random(1500)
    figures = slates.figures(slates.values(score))
    expected = report(
        user=slates.user,
        watch_time_s=slates.watched,
        duration_s=slates.duration,
        explicit=slates.explicit,
        long_view=slates.explicit,
        predicted_s=score,
        score=score,
    )
    names = [f"{name}@{k}{end}" for name in ("nwtg", "neg", "ds") for k in (5, 10) for end in ("", "_plain")]
    for name in [*names, "neg@5_positive_users", "neg@10_positive_users"]:
        assert figures[name] == pytest.approx(expected[name]), name


def test_the_composite_is_the_sum_of_the_objectives_on_hard_slates(slates: SlateEvaluator) -> None:
    score = np.random.default_rng(0).random(1500).astype(np.float32)
    figures = slates.figures(slates.values(score))
    rows_UK = []
    for user in slates.users(10):
        rows = np.flatnonzero(slates.user == user)
        rows_UK.append(rows[np.argsort(-score[rows], kind="stable")[:10]])
    top = np.stack(rows_UK)
    watch_time, duration = Scale().fit(slates.watched), Scale().fit(slates.duration)
    m1 = watch_time(torch.from_numpy(slates.watched[top])).numpy().mean()
    m2 = slates.explicit[top].mean()
    m3 = duration(torch.from_numpy(slates.duration[top])).numpy().std(axis=1).mean()
    assert figures["usage_time@10"] == pytest.approx(m1, rel=1e-5)
    assert figures["engagement@10"] == pytest.approx(m2, rel=1e-5)
    assert figures["duration_spread@10"] == pytest.approx(m3, rel=1e-4)
    assert figures["composite@10"] == pytest.approx(m1 + m2 + m3, rel=1e-4)
    assert figures["recommended_duration_s@10"] == pytest.approx(slates.duration[top].mean(), rel=1e-5)


def test_the_histogram_counts_every_listed_row_once(slates: SlateEvaluator) -> None:
    counts = slates.histogram(slates.duration)
    assert sum(counts) == 10 * len(slates.users(10))
    assert len(counts) == len(BINS_S)
    assert np.argmax(np.cumsum(counts) > 0) >= np.argmax(np.cumsum(slates.exposed_histogram()) > 0)


def test_a_k_that_no_user_reaches_is_left_out_and_without_any_the_window_is_refused(
    log: Interactions,
) -> None:
    rows = np.flatnonzero(log.user == 0).astype(np.int64)[:8]
    assert SlateEvaluator(log, rows, (5, 10), rows).cuts == (5,)
    assert SlateEvaluator(log, rows, (5, 10), rows).unsupported == (10,)
    with pytest.raises(BadInput, match="no user has more than 9 of the 8 exposures"):
        SlateEvaluator(log, rows, (9, 10), rows)


def test_rank_correlation_is_spearmans_with_ties() -> None:
    first = np.random.default_rng(0).integers(0, 5, 200).astype(float)
    second = np.random.default_rng(0).integers(0, 9, 200).astype(float)
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert rank_correlation(first, np.zeros(200)) is None


def test_rank_percentiles_are_within_each_user() -> None:
    user, score = np.array([1, 0, 1, 1, 0, 2]), np.array([0.1, 0.5, 0.9, 0.1, 0.6, 0.3])
    assert rank_percentiles(user, score).tolist() == [0.5, 0.0, 1.0, 0.0, 1.0, 1.0]


def test_the_frontier_begins_and_ends_at_the_two_scores(slates: SlateEvaluator) -> None:
    first, second = slates.watched, np.random.default_rng(0).random(1500).astype(np.float32)
    frontier = interpolate_rankings(slates, first, second)
    assert len(frontier) == len(SHARES)
    for score, point in ((first, frontier[0]), (second, frontier[-1])):
        for name, value in slates.figures(slates.values(score)).items():
            assert point[name] == pytest.approx(value), name


def test_a_point_is_over_a_frontier_when_no_mixture_is_as_good_in_both() -> None:
    x, y = [1.0, 0.5, 0.0], [0.0, 0.5, 1.0]
    assert margin_over_frontier(0.6, 0.6, x, y) == pytest.approx(0.1, abs=0.01)
    assert margin_over_frontier(0.4, 0.4, x, y) == pytest.approx(-0.1, abs=0.01)
    assert margin_over_frontier(1.1, 0.0, x, y) > 0
