"""`compare language`: its rows on a small log, and the planted users."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training._experiments import write_log
from training.experiments.language.config import NextVideoConfig
from training.experiments.language.experiment import (
    LANGUAGE,
    LanguageEvaluator,
    fit_method,
    load_evaluator,
)
from training.experiments.language.planted import plant
from training.experiments.language.ranking import ABSENT, gains, hits, positions
from training.experiments.language.serving import measure_serving

SMALL = {"transformer": {"width": 16, "feedforward": 16}, "epochs": 1}
CONFIG = NextVideoConfig.model_validate(
    {
        "targets": 80,
        "beams": 30,
        "exact": 10,
        "ids": {"levels": 2, "codes": 8},
        "learning": SMALL,
        "sasrec": SMALL | {"effect_weight": 0.0, "last_weight": 1.0, "actions": False},
        "planted": {"users": 60, "learning": SMALL},
    }
)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> LanguageEvaluator:
    folder = tmp_path_factory.mktemp("language")
    return load_evaluator(write_log(folder, users=80, videos=100, exposures=3000, days=8), CONFIG)


@pytest.mark.parametrize("method", [method.name for method in LANGUAGE.methods])
def test_every_method_ranks_the_catalogue(evaluator: LanguageEvaluator, method: str) -> None:
    result = fit_method(evaluator, method, CONFIG, 0, lambda _: None)
    figures = result["figures"]
    assert 0 < figures["hr@20"] <= 1
    assert figures["hr@5"] <= figures["hr@10"] <= figures["hr@20"]
    assert figures["ndcg@10"] <= figures["hr@10"]
    assert set(result["values"]) == {measure.values for measure in evaluator.measures.values()}
    if method == "popularity":
        assert figures["reliance"] == 0.0


def test_values_of_users_make_the_figures(evaluator: LanguageEvaluator) -> None:
    rank = evaluator.popularity()
    figures, values = evaluator.figures(rank, 20, 0)
    for name, measure in evaluator.measures.items():
        mean = (values[measure.values] * measure.weight).sum() / measure.weight.sum()
        assert mean == pytest.approx(figures[name])


def test_seen_videos_are_those_shown_before_the_target_alone(evaluator: LanguageEvaluator) -> None:
    log, views = evaluator.data.log, evaluator.views
    for at, target in enumerate(evaluator.target[:20]):
        row = views.row[target]
        mine = np.flatnonzero((log.user == log.user[row]) & (np.arange(len(log)) < row))
        before = log.history_ids[log.user[row]]
        assert set(evaluator.shown_before[at]) - {0} == (set(log.ids[mine, 0]) | set(before)) - {0}


def test_positions_count_what_is_left_of_a_ranking() -> None:
    ranked = np.array([[5, 3, 9, 4], [5, 3, 9, 4]])
    np.testing.assert_array_equal(positions(ranked, np.array([9, 8])), [2, ABSENT])
    np.testing.assert_array_equal(
        positions(ranked, np.array([9, 9]), np.array([[5, 0], [9, 3]])), [1, ABSENT]
    )
    np.testing.assert_allclose(gains(np.array([0, 2, ABSENT]), 10), [1, 0.5, 0])
    np.testing.assert_array_equal(hits(np.array([0, 10, ABSENT]), 10), [1, 0, 0])


def test_planted_users_keep_to_their_topic() -> None:
    config = CONFIG.planted
    world = plant(config, seed=3)
    own = world.is_tail[world.views.video]
    topic = (world.views.video - 2 - config.popular_videos) // config.topic_videos
    for user in range(10):
        mine = own & (world.views.user == user)
        assert len(set(topic[mine])) <= 1
    assert own.mean() == pytest.approx(1 - config.popular, abs=0.06)


def test_candidates_are_timed_for_a_request(evaluator: LanguageEvaluator) -> None:
    found = measure_serving(evaluator.ids(0), evaluator.known, CONFIG.learning)
    assert found[0]["candidates"] == 50
    assert all(row["candidates_ms"] > 0 and row["prompt_bytes"] > 0 for row in found)
