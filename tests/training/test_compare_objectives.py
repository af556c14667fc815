"""`compare objectives`: its figures made again by hand, and a whole report from a small world."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arrays import F32
from models.errors import BadInput
from models.metrics import auc, gauc, xauc, xgauc
from models.schema import FLAGS
from tests.conftest import done
from tests.training.test_interactions import log_of
from training.compare._jobs import Job
from training.compare._pick import pick
from training.compare.objectives import METHODS, CompareObjectivesConfig
from training.compare.objectives._compare import jobs
from training.compare.objectives._judge import FREQUENT, Judge, against_other_kind
from training.data import SyntheticConfig, prepare
from training.evaluation.concordance import concordance
from training.rankers import NAMES, WATCH_TIME

KNOBS = {
    "seeds": 1,
    "min_count": 1,
    "loop": {"epochs": 1, "batch_size": 1024, "sequence_length": 10},
    "encoder": {"width": 8, "token": 8, "heads": 2, "hidden": 16},
    "objectives": {"expert": 8},
}
MEANS = {"auc", "gauc", "auc_frequent", "gauc_frequent"}
SHOWN = "gradcraft,single,equal,pcgrad"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def scores(rows: int, seed: int = 0) -> dict[str, F32]:
    """Coarse, so that there are ties."""
    random = np.random.default_rng(seed)
    return {n: (random.integers(0, 6, rows) / 6).astype(np.float32) for n in (WATCH_TIME, *NAMES)}


def judge_of(rows: int = 400, users: int = 30) -> Judge:
    random = np.random.default_rng(3)
    log = log_of(random.integers(0, users, rows).tolist(), random.integers(0, 10**9, rows).tolist())
    return Judge(log, np.arange(rows))


def test_figures_are_those_of_the_metrics_and_their_means() -> None:
    judge = judge_of()
    by, together = scores(400), scores(400, seed=1)
    found = judge.figures(by, together)
    like = judge.actual["like"]
    assert found["auc/like"] == auc(like, by["like"])
    assert found["gauc/like"] == gauc(judge.user, like, together["like"])
    assert found["gauc_by_row/like"] == gauc(judge.user, like, by["like"])
    watched = judge.actual[WATCH_TIME]
    assert found["auc/watch_time"] == xauc(by[WATCH_TIME], watched)
    assert found["gauc/watch_time"] == xgauc(judge.user, together[WATCH_TIME], watched)
    assert found["gauc_by_row/watch_time"] == xgauc(judge.user, by[WATCH_TIME], watched)
    known = [value for name, value in found.items() if name.startswith("auc/") and value is not None]
    assert len(known) == len(NAMES) + 1
    assert found["auc"] == pytest.approx(np.mean(known))


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_the_users_parts_is_the_figure(seed: int) -> None:
    judge = judge_of()
    by, together = scores(400, seed), scores(400, seed + 10)
    figures, values = judge.figures(by, together), judge.values(by, together)
    assert set(values) == {"auc", "gauc", "auc_frequent", "gauc_frequent"}
    for kind, value in values.items():
        assert value.mean() == pytest.approx(figures[kind], abs=1e-9)


def test_rare_objectives_are_in_the_mean_of_all_and_not_of_the_frequent() -> None:
    judge = judge_of()
    judge.actual["hate"] = (np.arange(400) < FREQUENT - 1).astype(np.float32)
    judge.actual["like"] = (np.arange(400) < FREQUENT).astype(np.float32)
    assert "hate" in judge.judged
    assert "hate" not in judge.frequent
    assert {"like", WATCH_TIME} <= set(judge.frequent)


def test_a_users_part_is_what_the_figure_moves_by_when_the_user_counts_more() -> None:
    """The first-order part, against the figure of a log in which one user's rows are there twice."""
    judge = judge_of(rows=600, users=60)
    by = scores(600)
    values = judge.values(by, by)
    users = len(judge.users)
    moved, parts = [], []
    for u in range(0, users, 7):
        twice = np.concatenate([np.arange(600), np.flatnonzero(judge.place == u)])
        # Pairs of a row with its own copy tie in what happened, so they do not count.
        after = np.mean(
            [
                xauc(by[n][twice], judge.actual[n][twice])
                if n == WATCH_TIME
                else auc(judge.actual[n][twice], by[n][twice])
                for n in judge.judged
            ]
        )
        moved.append(after - values["auc"].mean())
        parts.append((values["auc"][u] - values["auc"].mean()) / users)
    assert np.corrcoef(moved, parts)[0, 1] > 0.99
    np.testing.assert_allclose(moved, parts, atol=0.25 * np.abs(parts).max())


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_pairs_of_a_yes_or_no_are_those_of_any_target(rows: list[tuple[int, bool]]) -> None:
    by, of = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    for got, want in zip(against_other_kind(by, of), concordance(by, of), strict=True):
        np.testing.assert_array_equal(got, want)


def test_seeds_come_one_after_the_other_and_ablations_less_often() -> None:
    config = CompareObjectivesConfig(seeds=2, ablation_seeds=1)
    asked = jobs(METHODS, config)
    assert [job.seed for job in asked] == [0] * len(METHODS) + [1] * sum(not m.ablation for m in METHODS)
    assert Job("gradcraft τ=1", 1) not in asked


def test_methods_are_picked_by_name() -> None:
    assert [m.name for m in pick(METHODS, "pcgrad,gradcraft", ablations=None)] == ["gradcraft", "pcgrad"]
    assert all(not m.ablation for m in pick(METHODS, None, ablations=False))
    with pytest.raises(BadInput, match="no method 'pcgard'; there are gradcraft, single"):
        pick(METHODS, "pcgard", ablations=None)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objectives")
    rates = dict.fromkeys(FLAGS, 0.05) | {"follow": 0.0}
    world = SyntheticConfig(users=60, videos=100, exposures=1500, days=8, rates=rates)
    (folder / "world.json").write_text(world.model_dump_json())
    prepare("synthetic", folder / "world.json", folder / "data", progress=False)
    (folder / "knobs.json").write_text(json.dumps(KNOBS))
    out = folder / "report"
    done(
        *("compare", "objectives", "--data", folder / "data", "--out", out, "--methods", SHOWN),
        *("--config", folder / "knobs.json", "--jobs", "1"),
    )
    return out


def test_a_report_says_everything_of_every_method(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    assert [row["method"] for row in found["rows"]] == SHOWN.split(",")
    for row in found["rows"]:
        assert row["refused"] is None
        assert len(row["metrics"]["auc"]["seeds"]) == 1
        assert {f"auc/{n}" for n in (WATCH_TIME, *NAMES)} <= set(row["metrics"])
        assert set(row["against"]) == (set() if row["method"] == "gradcraft" else MEANS)
    costs = {cost["method"]: cost for cost in found["costs"]}
    assert set(costs) == {"gradcraft", "equal", "pcgrad"}
    assert costs["pcgrad"]["ratio"] == 1.0
    assert costs["equal"]["step_ms"] < costs["gradcraft"]["step_ms"]
    text = (report / "report.md").read_text()
    assert "Where GradCraft stands" in text
    assert (report / "bars.png").stat().st_size > 5000


def test_flags_that_never_happen_are_left_out_of_the_means(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    row = found["rows"][0]
    assert row["metrics"]["auc/follow"]["mean"] is None
    assert row["metrics"]["auc"]["mean"] is not None
