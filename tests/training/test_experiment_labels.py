"""`compare labels`: a small log, a report whose figures can be computed by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.metrics import ds_at_k, neg_at_k, nwtg_at_k
from tests.training._experiments import (
    assert_pictures,
    read_rows,
    refusal,
    run_command,
    write_json,
    write_log,
)
from training.experiments.labels import METHODS, LabelsConfig, fit_method, load_evaluator
from training.labels import heuristic_label_makers

pytestmark = pytest.mark.slow

CONFIG = {
    "test_days": 2,
    "stop_days": 1,
    "meta_days": 2,
    "seeds": 2,
    "cuts": [3, 6],
    "recommender": {"epochs": 2, "batch_size": 512, "history": 10, "duration_groups": 10},
    "labelcraft": {
        "warm_start": False,
        "epochs": 2,
        "batch_size": 512,
        "history": 10,
        "k": 6,
        "hidden": 8,
        "user_share": 1.0,
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("labels"), users=40, videos=100, exposures=1500, days=8)


@pytest.fixture(scope="module")
def report(data: Path) -> Path:
    """The report of four methods with two seeds."""
    out = data.parent / "new" / "report"
    assert f"wrote {out / 'report.md'}" in run_command(*compare(data, out, "labelcraft,wt,ef,wt+ef"))
    return out


def compare(data: Path, out: Path, methods: str, *options: str) -> tuple[str | Path, ...]:
    config = write_json(data.parent / "config.json", CONFIG)
    paths = ("--data", data, "--out", out, "--config", config)
    return ("compare", "labels", *paths, "--methods", methods, "--jobs", "1", *options)


def test_a_row_has_every_figure_with_its_mean_over_the_seeds(report: Path) -> None:
    content = json.loads((report / "report.json").read_text())
    assert set(content) >= {"command", "commit", "machine", "config", "dataset", "rows"}
    for row in content["rows"]:
        assert row["refused"] is None
        for name in [f"{name}@{k}" for name in ("nwtg", "neg", "ds") for k in (3, 6)]:
            figure = row["metrics"][name]
            assert len(figure["seeds"]) == 2
            assert figure["mean"] == pytest.approx(np.mean(figure["seeds"]), rel=1e-5)
            assert figure["std"] == pytest.approx(np.std(figure["seeds"], ddof=1), rel=1e-2, abs=1e-6)
            if row["method"] != "labelcraft":
                assert set(row["against"][name]) >= {"difference", "p_value", "ci"}
    assert read_rows(report)["labelcraft"]["against"] == {}


def test_the_figures_are_those_of_a_fit_by_hand(report: Path, data: Path) -> None:
    config = LabelsConfig.model_validate(CONFIG)
    evaluator = load_evaluator(data, config)
    score = np.array(fit_method(evaluator, "wt", config, 1, lambda _: None)["scores"])
    reported = read_rows(report)["wt"]["metrics"]
    user, watched, duration = evaluator.user, evaluator.watched, evaluator.duration
    for k in (3, 6):
        for name, by_hand in (
            ("nwtg", nwtg_at_k(user, score, watched, k)),
            ("neg", neg_at_k(user, score, evaluator.explicit, k)),
            ("ds", ds_at_k(user, score, duration, k)),
        ):
            assert reported[f"{name}@{k}"]["seeds"][1] == pytest.approx(by_hand.weighted_mean, rel=1e-4)
            assert reported[f"{name}@{k}_plain"]["seeds"][1] == pytest.approx(by_hand.mean, rel=1e-4)
    positive = neg_at_k(user, score, evaluator.explicit, 6).without_degenerate().weighted_mean
    assert reported["neg@6_positive_users"]["seeds"][1] == pytest.approx(positive, rel=1e-4)


def test_differences_and_improvements_are_those_of_the_means(report: Path) -> None:
    rows = read_rows(report)
    for name in ("wt", "ef", "wt+ef"):
        for figure, against in rows[name]["against"].items():
            reference, mean = (rows[m]["metrics"][figure]["mean"] for m in ("labelcraft", name))
            assert against["difference"] == pytest.approx(reference - mean, abs=1e-4 + 1e-5 * abs(mean))
            assert against["relative_improvement"] == pytest.approx((reference - mean) / mean, abs=1e-3)
            assert against["ci"][0] <= against["difference"] <= against["ci"][1]


def test_the_frontier_begins_at_wt_and_ends_at_ef(report: Path) -> None:
    rows, frontier = read_rows(report), json.loads((report / "report.json").read_text())["front"]
    for name, point in (("wt", frontier["points"][0]), ("ef", frontier["points"][-1])):
        for figure in ("nwtg@6", "neg@6", "ds@6"):
            assert point[figure]["mean"] == pytest.approx(rows[name]["metrics"][figure]["mean"], rel=1e-5)


def test_a_label_is_drawn_over_watch_time_and_duration(report: Path) -> None:
    surfaces = json.loads((report / "report.json").read_text())["surfaces"]
    assert set(surfaces) == {"labelcraft", "wt", "ef"}
    wt, ef = np.array(surfaces["wt"]["plain"]), surfaces["ef"]
    assert (np.diff(wt, axis=0) >= 0).all()  # more watch time, a higher label
    assert "liked" not in surfaces["wt"]
    assert (np.array(ef["plain"]) == 0).all()
    assert (np.array(ef["liked"]) == 1).all()


def test_the_report_has_every_row_and_its_pictures(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert all(f"`{name}`" in text for name in ("labelcraft", "wt", "ef", "wt+ef"))
    assert_pictures(report, {"bars.png", "durations.png", "front.png", "labels.png", "learning.png"})


def test_a_method_that_cannot_work_on_a_log_is_a_row_with_the_reason(data: Path, tmp_path: Path) -> None:
    """Without explicit feedback `ef` is 0 everywhere, and LabelCraft could not learn engagement."""
    table = pl.read_parquet(data / "interactions.parquet")
    flags = [pl.lit(False).alias(name) for name in ("like", "follow", "comment", "forward")]
    (tmp_path / "data").mkdir()
    table.with_columns(flags).write_parquet(tmp_path / "data" / "interactions.parquet")
    out = tmp_path / "out"
    run_command(*compare(tmp_path / "data", out, "labelcraft,wt,ef", "--k", "3,6,90", "--seeds", "1"))
    rows, text = read_rows(out), (out / "report.md").read_text()
    for name in ("labelcraft", "ef"):
        assert "explicit feedback" in rows[name]["refused"]
        assert rows[name]["metrics"] == {}
        assert rows[name]["refused"] in text
    assert rows["wt"]["refused"] is None
    assert "nwtg@90" not in rows["wt"]["metrics"]
    notes = " ".join(json.loads((out / "report.json").read_text())["notes"])
    assert "every NEG is 1" in notes
    assert "k = 90 is left out" in notes


def test_a_log_without_a_user_to_evaluate_is_refused(data: Path, tmp_path: Path) -> None:
    assert "no user has more than 90" in refusal(*compare(data, tmp_path / "out", "wt", "--k", "90"))
    assert "such as 5,10" in refusal(*compare(data, tmp_path / "out", "wt", "--k", "five"))
    assert not list(tmp_path.iterdir())


def test_every_heuristic_that_is_served_is_a_row_of_its_own() -> None:
    names = {method.name for method in METHODS if method.labels == (method.name,)}
    assert {maker.name for maker in heuristic_label_makers()} | {"labelcraft"} == names
    assert sum(method.ablation for method in METHODS) == 13
