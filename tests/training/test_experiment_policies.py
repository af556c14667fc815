"""`compare policies`: its three comparisons on a small log, few users and short chains."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training._experiments import write_log
from training.experiments.policies.config import PoliciesConfig, ScaleConfig
from training.experiments.policies.experiment import (
    POLICIES,
    PoliciesEvaluator,
    fit_method,
    load_evaluator,
    uniform,
)
from training.experiments.policies.scale import candidate_costs, dense_costs
from training.experiments.policies.simulated import run_sessions
from training.simulator import Audience, Population, PopulationConfig

CONFIG = PoliciesConfig.model_validate(
    {
        "chain": {"states": 6, "sessions": 200, "learning": {"updates": 20}},
        "simulator": {
            "population": {"users": 40, "videos": 60},
            "random_sessions": 1,
            "logged_sessions": 1,
            "tested_sessions": 1,
            "learning": {"updates": 10},
        },
        "log": {"candidates": 4, "learning": {"updates": 10}},
    }
)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> PoliciesEvaluator:
    folder = tmp_path_factory.mktemp("policies")
    return load_evaluator(write_log(folder, users=60, videos=100, exposures=1500, days=8), CONFIG)


@pytest.mark.parametrize("method", [method.name for method in POLICIES.methods if method.kind != "dense"])
def test_every_method_is_compared_three_times(evaluator: PoliciesEvaluator, method: str) -> None:
    result = fit_method(evaluator, method, CONFIG, 0, lambda _: None)
    figures = result["figures"]
    assert 0 < figures["chain/share_of_best"] <= 1
    assert figures["simulator/session_s"] > 0
    assert (figures["log/doubly_robust_s"] is None) == (result["refusal"] is not None)


def test_simulated_sessions_are_logged_whole_with_their_propensities() -> None:
    population = Population.draw(PopulationConfig(users=30, videos=50), seed=0)
    log = run_sessions(Audience(population, 0), uniform, sessions=2, candidates=5, seed=0)
    assert len(np.unique(log.steps.session)) == 60
    assert log.steps.reward.sum() == pytest.approx(log.session_watch_time_s.sum(), rel=1e-4)
    np.testing.assert_allclose(log.steps.propensity, 0.2)
    assert bool((np.diff(log.steps.user) >= 0).all())


def test_a_dense_layer_is_timed_until_it_is_refused() -> None:
    assert dense_costs(100)["update_s"] > 0
    refused = dense_costs(4_369_953)
    assert "3,565,881,648 bytes" in refused["refused"]
    assert refused["update_s"] is None


def test_a_large_catalogue_is_learned_from_candidates() -> None:
    found = candidate_costs(ScaleConfig(videos=20_000, exposures=40_000, updates=60))
    assert found["chosen_reward"] > found["logged_reward"] + 0.5
