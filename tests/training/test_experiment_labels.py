"""`compare labels`: a rolling origin over a small log, whose figures can be computed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from models.arrays import F64
from models.metrics import auc, nwtg_at_k
from tests.training._experiments import (
    assert_pictures,
    read_rows,
    refusal,
    run_command,
    write_json,
    write_log,
)
from training.data import day_numbers
from training.evaluation.bootstrap import Resamples, holm, self_p_values
from training.experiments.commands import QUICK
from training.experiments.config import load_config
from training.experiments.labels.config import LabelsConfig
from training.experiments.labels.figures import FIGURES, WindowFigures, composites_of
from training.experiments.labels.jobs import NETWORK, RIDGE, TREES, Plan
from training.experiments.labels.known_labels import known_labels, weights
from training.experiments.labels.methods import GRID, METHODS, is_rule, part_names
from training.experiments.labels.recommenders import Ridge, Trees, network_scores
from training.experiments.labels.rolling import RollingOrigin, rolling_origin
from training.experiments.labels.surrogate import surrogate_index
from training.labelcraft.closed_form import ClosedFormConfig, LabelSurface, ridge_windows
from training.labels import WT, heuristic_label_makers, labels_of

CONFIG: dict[str, Any] = {
    "seeds": 4,
    "tree_seeds": 2,
    "network_seeds": 1,
    "resamples": 200,
    "same_label_trials": 4,
    "windows": 3,
    "k": 3,
    "closed_form": {"watch_knots": 7, "duration_knots": 5, "k": 3, "steps": 8, "ridge": 300.0, "redraws": 2},
    "trees": {"rounds": 5, "rows_per_leaf": 20},
    "network": {
        "epochs": 1,
        "sasrec": {"head": "ratio", "embedding": 4, "blocks": 1, "heads": 2, "feedforward": 8, "length": 20},
    },
    "one_step": {
        "epochs": 2,
        "k": 3,
        "shared_hold_out": True,
        "hidden": 16,
        "history": 10,
        "recommender": {"embedding": 4, "attention": 4, "tower": [8, 5]},
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("labels"), users=60, videos=100, exposures=2400, days=8)


@pytest.fixture(scope="module")
def origin(data: Path) -> RollingOrigin:
    return rolling_origin(data, LabelsConfig.model_validate(CONFIG))


@pytest.fixture(scope="module")
def report(data: Path) -> Path:
    """The report of some methods of every kind."""
    out = data.parent / "new" / "report"
    orders = "random,longest,video's watch time,best rule: past"
    methods = f"labelcraft,frozen,one-step network,{orders},wt,wt+ef,dvr,surrogate index"
    assert f"wrote {out / 'report.md'}" in run_command(*compare(data, out, methods))
    return out


def compare(data: Path, out: Path, methods: str, *options: str) -> tuple[str | Path, ...]:
    config = write_json(data.parent / "config.json", CONFIG)
    paths = ("--data", data, "--out", out, "--config", config)
    return ("compare", "labels", *paths, "--methods", methods, "--jobs", "1", *options)


# --- the rolling origin


def test_nothing_of_a_window_is_known_before_it(origin: RollingOrigin) -> None:
    day = day_numbers(origin.log.timestamp_ms, origin.dataset.info.utc_offset_hours)
    assert len(origin.windows) == 3
    for window in origin.windows:
        assert day[window.known].max() < day[window.rows].min()
        assert np.ptp(day[window.rows]) <= 1
        assert (origin.log.user[window.rows[window.index[:, 0]]] == window.users).all()
        assert (np.unique(origin.log.user[window.rows], return_counts=True)[1] > 3).all()


def test_a_later_day_changes_no_score_of_an_earlier_window(origin: RollingOrigin, data: Path) -> None:
    def scores(log_of: RollingOrigin) -> F64:
        window = log_of.windows[1]
        label_N1 = labels_of(WT().fit(log_of.log.take(window.known)), log_of.log.take(window.known))[:, None]
        return Ridge(log_of, np.ones(len(log_of.log.user_ids)), 300.0).scores(window, label_N1)

    last = origin.windows[-1].rows
    feedback = origin.log.feedback.copy()
    feedback[last, 0] *= 5
    changed = replace(origin, log=replace(origin.log, feedback=feedback))
    assert np.allclose(scores(origin), scores(changed))


# --- labels


def test_parts_are_every_label_that_methods_and_rules_need() -> None:
    parts = part_names((*METHODS, *GRID))
    assert {maker.name for maker in heuristic_label_makers()} < set(parts)
    assert len(set(parts)) == len(parts)
    assert all(set(rule.parts) <= set(parts) for rule in GRID)
    assert not [method.name for method in METHODS if is_rule(method) and (method.learned or method.order)]


def test_every_label_maker_that_is_served_is_a_row_of_its_own() -> None:
    names = {method.name for method in METHODS if dict(method.parts) == {method.name: 1.0}}
    assert {maker.name for maker in heuristic_label_makers()} | {"labelcraft"} <= names


def test_the_labels_of_a_rule_are_the_weighted_sum_of_its_parts(origin: RollingOrigin) -> None:
    window, parts = origin.windows[1], part_names(GRID)
    known, day = origin.log.take(window.known), origin.day[window.known]
    label_NP, _, refused = known_labels(known, day, parts, {}, seed=0)
    assert not refused
    rule = next(rule for rule in GRID if rule.name == "dml_lv + 1e + 0.3d")
    by_hand = sum(
        weight * label_NP[:, parts.index(part)] / label_NP[:, parts.index(part)].std()
        for part, weight in rule.parts.items()
    )
    assert np.allclose(label_NP @ weights([rule], parts, label_NP)[:, 0], by_hand, atol=1e-5)


def test_the_surrogate_of_a_user_does_not_know_this_users_outcome(origin: RollingOrigin) -> None:
    known = origin.windows[-1].known
    log, day = origin.log.take(known), origin.day[known]
    index = surrogate_index(log, day, seed=0)
    feedback = log.feedback.copy()
    mine = log.user == log.user[0]
    feedback[mine, 2] = 1.0 - feedback[mine, 2]  # every like of one user is turned round
    other = surrogate_index(replace(log, feedback=feedback), day, seed=0)
    rest = ~mine
    assert np.allclose(index[mine], other[mine])
    assert not np.allclose(index[rest], other[rest])


# --- recommenders


def test_the_ridge_regression_is_the_one_that_labels_are_learned_through(origin: RollingOrigin) -> None:
    config = ClosedFormConfig(watch_knots=7, duration_knots=5, k=3, ridge=300.0)
    surface = LabelSurface(config).fit(origin.log)
    surface.table.copy_(torch.rand(surface.table.shape, generator=torch.Generator().manual_seed(0)))
    (*_, learned_through) = ridge_windows(origin.log, origin.day, surface, config)
    ridge = Ridge(origin, np.ones(len(origin.log.user_ids)), 300.0)
    for window in origin.windows:
        label_N1 = labels_of(surface, origin.log.take(window.known))[:, None]
        scores = ridge.scores(window, label_N1)
    through = (learned_through.response @ surface.table.reshape(-1)).numpy()
    assert np.corrcoef(scores[0, :, 0], through[-len(window.rows) :])[0, 1] > 0.999


def test_a_recommender_of_a_sum_of_labels_has_the_sum_of_the_scores(origin: RollingOrigin) -> None:
    random = np.random.default_rng(0)
    window = origin.windows[0]
    label_N2 = random.random((len(window.known), 2)).astype(np.float32)
    both = np.concatenate([label_N2, label_N2.sum(axis=1, keepdims=True)], axis=1)
    scores = Ridge(origin, np.ones(len(origin.log.user_ids)), 300.0).scores(window, both)[0]
    assert np.allclose(scores[:, 0] + scores[:, 1], scores[:, 2], atol=1e-4)


def test_users_who_are_not_drawn_teach_nothing(origin: RollingOrigin) -> None:
    window = origin.windows[1]
    drawn = np.ones(len(origin.log.user_ids))
    drawn[origin.log.user[window.known[0]]] = 0.0
    label_N = labels_of(WT().fit(origin.log), origin.log.take(window.known))
    changed = np.where(origin.log.user[window.known] == origin.log.user[window.known[0]], 1.0, label_N)
    trees = Trees(origin, window, LabelsConfig.model_validate(CONFIG).trees)
    by_trees = [trees.score(label.astype(np.float32), drawn, seed=0) for label in (label_N, changed)]
    assert np.allclose(by_trees[0], by_trees[1], atol=1e-6)
    by_ridge = [
        Ridge(origin, drawn, 300.0).scores(window, label[:, None].astype(np.float32))
        for label in (label_N, changed)
    ]
    assert np.allclose(by_ridge[0], by_ridge[1], atol=1e-6)


def test_a_network_does_not_see_the_other_candidates_of_a_request(origin: RollingOrigin) -> None:
    window, config = origin.windows[1], LabelsConfig.model_validate(CONFIG).network
    label_N = labels_of(WT().fit(origin.log), origin.log.take(window.known))
    feedback = origin.log.feedback.copy()
    feedback[window.rows, 2:] = 1.0  # what users did in the window
    seen = replace(origin, log=replace(origin.log, feedback=feedback))
    scores = [network_scores(one, window, label_N, config, seed=0) for one in (origin, seen)]
    assert np.allclose(scores[0], scores[1])
    assert np.ptp(scores[0]) > 0


# --- figures


def test_the_figures_are_those_of_the_metrics(origin: RollingOrigin) -> None:
    window = origin.windows[1]
    figures = WindowFigures(origin.log, window, composites_of(origin.windows, 3), 3)
    score = np.random.default_rng(1).random(len(window.rows))
    values = dict(zip(FIGURES, figures.values(score), strict=True))
    log = origin.log.take(window.rows)
    assert np.allclose(values["nwtg"], nwtg_at_k(log.user, score, log.watch_time_s, 3).values)
    net = log.explicit - log.hate
    for user, neg, spread in zip(window.users, values["neg"], values["ds"], strict=True):
        mine = log.user == user
        by_hand = auc(net[mine], score[mine]) if set(np.unique(net[mine])) <= {0.0, 1.0} else None
        if by_hand is not None:
            assert neg == pytest.approx(by_hand)
        best = np.argsort(-score[mine], kind="stable")[:3]
        assert spread == pytest.approx(log.duration_s[mine][best].std(), rel=1e-4)
    deviations = figures.composites["composite"].deviations
    parts = [values[name] / deviations[name] for name in deviations]
    assert np.allclose(values["composite"], np.mean(parts, axis=0), atol=1e-5)
    assert np.allclose(
        np.array(figures.composite(score)),
        [values["composite"].sum(), values["paper_composite"].sum()],
        rtol=1e-5,
    )


# --- differences


def test_holm_multiplies_the_smallest_by_the_number_and_never_turns_the_order_round() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def values(shift: float, *, seed: int, between: float, redraws: int = 6, users: int = 300) -> F64:
    """Values of a method: what users have in common, what a redraw of its recommender changes, and noise."""
    random = np.random.default_rng(seed)
    user = np.random.default_rng(0).normal(size=users)
    redraw = random.normal(scale=between, size=(redraws, 1))
    return user + shift + redraw + random.normal(scale=0.3, size=(redraws, users))


def test_a_difference_is_found_and_its_interval_covers_it() -> None:
    resamples = Resamples.draw(np.repeat(np.arange(150), 2), 500, seed=0)
    found = resamples.difference(values(0.2, seed=1, between=0.0), values(0.0, seed=2, between=0.0))
    assert found is not None
    assert found.ci[0] < 0.2 < found.ci[1]
    assert found.p_value < 0.01
    assert found.detectable == pytest.approx(2.8 * found.standard_error, rel=0.01)


def test_users_without_a_figure_count_for_neither_method() -> None:
    first, second = values(0.0, seed=1, between=0.0), values(0.0, seed=2, between=0.0)
    second[:, :100] = np.nan
    found = Resamples.draw(np.arange(300), 200, seed=0).difference(first, second)
    assert found is not None
    assert found.difference == pytest.approx((first - second)[:, 100:].mean())
    assert Resamples.draw(np.arange(300), 200, seed=0).difference(first, np.full_like(first, np.nan)) is None


def test_a_label_is_hardly_ever_taken_for_another_when_recommenders_differ() -> None:
    resamples = Resamples.draw(np.arange(300), 300, seed=0)
    methods: Sequence[F64] = [values(0.0, seed=n, between=0.2, redraws=10) for n in range(30)]
    marked = np.mean(np.array(self_p_values(resamples, methods, 60, seed=0)) < 0.05)
    fixed = [
        resamples.difference(one[:1], one[1:2]) for one in methods
    ]  # of one redraw each: users alone, as it used to be
    assert np.mean([found.p_value < 0.05 for found in fixed if found is not None]) > 0.5
    assert marked < 0.2


# --- the command


@pytest.mark.slow
def test_a_row_has_every_figure_with_its_mean_over_the_recommenders(report: Path) -> None:
    content = json.loads((report / "report.json").read_text())
    assert set(content) >= {"command", "commit", "machine", "config", "dataset", "power", "picks", "rows"}
    rows = read_rows(report)
    for name, row in rows.items():
        assert row["refused"] is None
        with_network = ("labelcraft", "frozen", "wt", "best rule: past")
        assert ("network.composite@3" in row["metrics"]) == (name in with_network)
        for figure in ("composite@3", "nwtg@3", "trees.composite@3", "trees.neg@3"):
            found = row["metrics"][figure]
            assert len(found["seeds"]) == (2 if figure.startswith("trees") else 4)
            assert found["mean"] == pytest.approx(np.mean(found["seeds"]), rel=1e-4)
            assert len(found["windows"]) == 2
            if name != "labelcraft":
                against = row["against"][figure]
                reference = rows["labelcraft"]["metrics"][figure]["mean"]
                assert against["difference"] == pytest.approx(reference - found["mean"], abs=1e-3)
                assert against["p_adjusted"] >= against["p_value"]
    assert rows["longest"]["metrics"]["nwtg@3"]["std"] == 0.0
    assert rows["labelcraft"]["label"]["duration_correlation"] is not None
    assert len(content["distances"]["one-step network"]) == 2
    assert "plain" in content["surfaces"]["one-step network"]


@pytest.mark.slow
def test_the_report_has_every_row_and_its_pictures(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert all(f"`{name}`" in text for name in ("labelcraft", "best rule: past", "wt+ef", "random"))
    assert_pictures(report, {"leads.png", "labels.png"})
    assert not list(report.parent.glob(".report*"))  # nothing is left of the jobs


@pytest.mark.slow
def test_a_label_that_a_log_does_not_allow_is_a_row_with_the_reason(data: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(data / "interactions.parquet")
    flags = [pl.lit(False).alias(name) for name in ("like", "follow", "comment", "forward")]
    (tmp_path / "data").mkdir()
    table.with_columns(flags).write_parquet(tmp_path / "data" / "interactions.parquet")
    out = tmp_path / "out"
    run_command(*compare(tmp_path / "data", out, "wt,ef", "--seeds", "2"))
    rows = read_rows(out)
    assert "explicit feedback" in rows["ef"]["refused"]
    assert rows["ef"]["metrics"] == {}
    assert rows["ef"]["refused"] in (out / "report.md").read_text()
    assert rows["wt"]["refused"] is None


@pytest.mark.slow
def test_rows_need_neither_the_learned_label_nor_one_that_matters(data: Path, tmp_path: Path) -> None:
    """Trees on `pcr` are fewer than trees on learned labels, and there is no network of it."""
    options = write_json(tmp_path / "config.json", CONFIG | {"tree_seeds": 3})
    paths = ("--data", data, "--out", tmp_path / "out", "--config", options, "--jobs", "1")
    run_command("compare", "labels", *paths, "--methods", "pcr,random")
    rows = read_rows(tmp_path / "out")
    assert len(rows["pcr"]["metrics"]["composite@3"]["seeds"]) == 4
    assert len(rows["pcr"]["metrics"]["trees.composite@3"]["seeds"]) == 2
    assert rows["random"]["metrics"]["nwtg@3"]["mean"] > 0
    assert rows["pcr"]["against"] == {}
    assert_pictures(tmp_path / "out", set())


@pytest.mark.slow
def test_labels_are_learned_on_a_window_before_whatever_the_number_of_days(tmp_path: Path) -> None:
    data = write_log(tmp_path, users=60, videos=100, exposures=2400, days=9)
    out = tmp_path / "out"
    run_command(*compare(data, out, "labelcraft", "--seeds", "2", "--windows", "5"))
    assert len(json.loads((out / "report.json").read_text())["dataset"]["windows"]) == 3
    assert read_rows(out)["labelcraft"]["refused"] is None


@pytest.mark.slow
def test_a_label_that_cannot_be_learned_is_a_row_with_the_reason(data: Path, tmp_path: Path) -> None:
    """Users of a window may all have too few exposures in the windows before."""
    config = CONFIG | {"closed_form": {**CONFIG["closed_form"], "k": 90}}
    options = write_json(tmp_path / "config.json", config)
    paths = ("--data", data, "--out", tmp_path / "out", "--config", options, "--jobs", "1")
    run_command("compare", "labels", *paths, "--methods", "labelcraft,wt", "--seeds", "2")
    rows = read_rows(tmp_path / "out")
    assert "more than k = 90" in rows["labelcraft"]["refused"]
    assert rows["wt"]["metrics"]["composite@3"]["mean"] > 0


def test_quick_changes_what_it_names_of_a_config_and_nothing_else(tmp_path: Path) -> None:
    own = {"resamples": 300, "closed_form": {"ridge": 50.0, "redraws": 4}}
    loaded = load_config(LabelsConfig, write_json(tmp_path / "config.json", own), QUICK)
    assert loaded.closed_form.ridge == 50.0
    assert loaded.closed_form.redraws == QUICK["closed_form"]["redraws"]
    assert loaded.resamples == QUICK["resamples"]
    assert loaded.closed_form.smoothness == LabelsConfig().closed_form.smoothness


def test_the_central_rows_have_all_redraws_of_every_recommender() -> None:
    plan = Plan(METHODS, LabelsConfig(network_seeds=4), Path())
    central = {method.name for method in METHODS if method.central}
    assert central == {"labelcraft", "frozen", "shuffled", "best rule: past", "best rule: hindsight"}
    for method in METHODS:
        found = [plan.redraws(kind, method) for kind in (RIDGE, TREES, NETWORK)]
        if method.central:
            assert found == [10, 10, 4]
        else:
            assert found == [10, 4 if method.decisive else 2, 2 if method.network else 0]


def test_a_log_without_a_user_to_evaluate_is_refused(data: Path, tmp_path: Path) -> None:
    assert "no user has more than k = 90" in refusal(*compare(data, tmp_path / "out", "wt", "--k", "90"))
    assert "too few" in refusal(*compare(data, tmp_path / "out", "wt", "--window-days", "5"))
    assert not list(tmp_path.iterdir())
