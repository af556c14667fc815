"""`compare objectives`: its figures computed by hand, and a report from a small log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.arrays import F32
from models.metrics import auc, gauc, xauc, xgauc
from models.schema import FLAGS
from tests.training._experiments import assert_pictures, run_command, write_json, write_log
from training.evaluation.objective_scores import FREQUENT
from training.experiments import cost
from training.experiments.objectives import ObjectivesEvaluator, ObjectivesExperimentConfig, load_evaluator
from training.rankers import NAMES, WATCH_TIME

pytestmark = pytest.mark.slow

CONFIG = {
    "seeds": 1,
    "min_count": 1,
    "loop": {"epochs": 1, "batch_size": 1024, "sequence_length": 10},
    "encoder": {"width": 8, "token": 8, "heads": 2, "hidden": 16},
}
MEANS = {"auc", "gauc", "auc_frequent", "gauc_frequent"}
SELECTED = ["gradcraft", "single", "equal", "pcgrad"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rates = dict.fromkeys(FLAGS, 0.05) | {"follow": 0.0}
    folder = tmp_path_factory.mktemp("objectives")
    return write_log(folder, users=60, videos=100, exposures=1500, days=8, rates=rates)


@pytest.fixture
def evaluator(data: Path) -> ObjectivesEvaluator:
    """Figures on most of the log."""
    config = ObjectivesExperimentConfig.model_validate(CONFIG | {"test_days": 5})
    return load_evaluator(data, config)


def scores(evaluator: ObjectivesEvaluator, seed: int = 0) -> dict[str, F32]:
    """Return coarse scores, so that there are ties."""
    random = np.random.default_rng(seed)
    rows = len(evaluator.user)
    return {name: (random.integers(0, 6, rows) / 6).astype(np.float32) for name in (WATCH_TIME, *NAMES)}


def test_figures_are_those_of_the_metrics_and_their_means(evaluator: ObjectivesEvaluator) -> None:
    by_row, by_request = scores(evaluator), scores(evaluator, seed=1)
    figures = evaluator.figures(by_row, by_request)
    like, watched = evaluator.actual["like"], evaluator.actual[WATCH_TIME]
    assert figures["auc/like"] == auc(like, by_row["like"])
    assert figures["gauc/like"] == gauc(evaluator.user, like, by_request["like"])
    assert figures["gauc_by_row/like"] == gauc(evaluator.user, like, by_row["like"])
    assert figures["auc/watch_time"] == xauc(by_row[WATCH_TIME], watched)
    assert figures["gauc/watch_time"] == xgauc(evaluator.user, by_request[WATCH_TIME], watched)
    assert figures["gauc_by_row/watch_time"] == xgauc(evaluator.user, by_row[WATCH_TIME], watched)
    each = [value for name in evaluator.varied if (value := figures[f"auc/{name}"]) is not None]
    assert len(each) == len(NAMES)  # all ten but follow, which never happens
    assert figures["auc"] == pytest.approx(np.mean(each))
    assert figures["auc/follow"] is None


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_the_users_parts_is_the_figure(evaluator: ObjectivesEvaluator, seed: int) -> None:
    by_row, by_request = scores(evaluator, seed), scores(evaluator, seed + 10)
    figures, values = evaluator.figures(by_row, by_request), evaluator.values(by_row, by_request)
    assert set(values) == MEANS == set(evaluator.measures)
    for kind, value in values.items():
        assert value.mean() == pytest.approx(figures[kind], abs=1e-9)


def test_rare_objectives_are_in_the_mean_of_all_and_not_of_the_frequent(
    evaluator: ObjectivesEvaluator,
) -> None:
    rows = np.arange(len(evaluator.user))
    evaluator.actual["hate"] = (rows < FREQUENT - 1).astype(np.float32)
    evaluator.actual["like"] = (rows < FREQUENT).astype(np.float32)
    assert "hate" in evaluator.varied
    assert "hate" not in evaluator.frequent
    assert {"like", WATCH_TIME} <= set(evaluator.frequent)


def test_a_users_part_is_what_the_figure_moves_by_when_the_user_counts_more(
    evaluator: ObjectivesEvaluator,
) -> None:
    """The first-order part, against the figure of a log that has one user's rows twice."""
    score = scores(evaluator)
    value_U, users = evaluator.values(score, score)["auc"], len(evaluator.users)
    moved, parts = [], []
    for u in range(0, users, 7):
        twice = np.r_[np.arange(len(evaluator.user)), np.flatnonzero(evaluator.user_index == u)]
        # Pairs of a row with its own copy tie in the outcome, so they do not count.
        after = [
            xauc(score[name][twice], outcome[twice])
            if name == WATCH_TIME
            else auc(outcome[twice], score[name][twice])
            for name, outcome in evaluator.actual.items()
        ]
        moved.append(np.mean([value for value in after if value is not None]) - value_U.mean())
        parts.append((value_U[u] - value_U.mean()) / users)
    assert np.corrcoef(moved, parts)[0, 1] > 0.99
    np.testing.assert_allclose(moved, parts, atol=0.25 * np.abs(parts).max())


def test_a_report_contains_every_method_its_costs_and_its_pictures(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cost, "ROUNDS", 3
    )  # a step with a gradient of each objective costs many times as much
    out, config = data.parent / "report", write_json(data.parent / "config.json", CONFIG)
    options = ("--methods", ",".join(SELECTED), "--config", config, "--jobs", "1")
    run_command("compare", "objectives", "--data", data, "--out", out, *options)
    content = json.loads((out / "report.json").read_text())
    assert [row["method"] for row in content["rows"]] == SELECTED
    for row in content["rows"]:
        assert row["refused"] is None
        assert len(row["metrics"]["auc"]["seeds"]) == 1
        assert {f"auc/{name}" for name in (WATCH_TIME, *NAMES)} <= set(row["metrics"])
        assert row["metrics"]["auc/follow"]["mean"] is None  # it never happens in this log
        assert row["metrics"]["auc"]["mean"] is not None
        assert set(row["against"]) == (set() if row["method"] == "gradcraft" else MEANS)
    costs = {row["method"]: row for row in content["costs"]}
    assert set(costs) == {"gradcraft", "equal", "pcgrad"}
    assert costs["pcgrad"]["ratio"] == 1.0
    assert costs["equal"]["step_ms"] < costs["gradcraft"]["step_ms"]
    assert_pictures(out, {"bars.png"})
