"""`compare watch-time`: its figures computed by hand, every row alike but for the head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training._experiments import (
    assert_pictures,
    read_rows,
    refusal,
    run_command,
    write_json,
    write_log,
)
from tests.training.kuairec_csv import row as kuairec_row
from tests.training.kuairec_csv import write as write_kuairec
from tests.training.wechat_csv import action
from tests.training.wechat_csv import write as write_wechat
from training.data import prepare
from training.encoders import inputs_for, plain_features, plain_names
from training.experiments.trees import features
from training.experiments.watch_time import (
    METHODS,
    WatchTimeConfig,
    WatchTimeEvaluator,
    fit_method,
    load_data,
    load_evaluator,
)

pytestmark = pytest.mark.slow

SETTINGS = {
    "seeds": 2,
    "all_tabs": True,
    "loop": {"epochs": 1, "batch_size": 512, "sequence_length": 10},
    "encoder": {"width": 8, "token": 8, "heads": 2, "hidden": 16},
    "lda": {"groups": 3, "dim": 8, "anchors": {"sequences": 128, "epochs": 2, "anchors": 8}},
}
CONFIG = WatchTimeConfig.model_validate(SETTINGS)
SELECTED = ["lda", "vr", "tpm", "lightgbm l1", "median"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("watch_time"), users=60, videos=100, exposures=3000, days=8)


@pytest.fixture(scope="module")
def evaluator(data: Path) -> WatchTimeEvaluator:
    return load_evaluator(data, CONFIG)


@pytest.fixture(scope="module")
def report(data: Path) -> Path:
    out = data.parent / "new" / "report"
    assert f"wrote {out / 'report.md'}" in run_command(*compare(data, out, ",".join(SELECTED)))
    return out


def compare(data: Path, out: Path, methods: str, *options: str) -> tuple[str | Path, ...]:
    config = write_json(data.parent / "config.json", SETTINGS)
    paths = ("--data", data, "--out", out, "--config", config)
    return ("compare", "watch-time", *paths, "--methods", methods, "--jobs", "1", *options)


def test_the_report_has_a_row_for_every_method_and_its_origin(report: Path) -> None:
    content = json.loads((report / "report.json").read_text())
    assert {"command", "commit", "machine", "dataset", "config"} <= set(content)
    rows = read_rows(report)
    assert list(rows) == SELECTED
    for name, row in rows.items():
        assert row["refused"] is None
        figure = row["metrics"]["mae_s"]
        assert len(figure["seeds"]) == (1 if name == "median" else 2)
        assert figure["mean"] == pytest.approx(np.mean(figure["seeds"]), rel=1e-5)
    assert_pictures(report, {"anchors.png", "bars.png", "predicted.png", "reliability.png"})


def test_a_fit_is_repeated_to_the_digit(report: Path, evaluator: WatchTimeEvaluator) -> None:
    figures = fit_method(evaluator, "vr", CONFIG, 1, lambda _: None)["figures"]
    for name, figure in read_rows(report)["vr"]["metrics"].items():
        if figures[name] is not None:
            assert figure["seeds"][1] == pytest.approx(figures[name], rel=1e-4), name


def test_the_median_has_the_error_of_the_median_by_hand(report: Path, evaluator: WatchTimeEvaluator) -> None:
    watched, data = evaluator.data.log.watch_time_s, evaluator.data
    by_hand = np.abs(watched[data.test] - np.median(watched[data.fitted])).mean()
    metrics = read_rows(report)["median"]["metrics"]
    assert metrics["mae_s"]["mean"] == pytest.approx(by_hand, rel=1e-5)
    assert metrics["xauc"]["mean"] == 0.5


def test_differences_are_those_of_the_means(report: Path) -> None:
    rows = read_rows(report)
    assert rows["lda"]["against"] == {}
    for name in SELECTED[1:]:
        for figure, sign in (("mae_s", -1), ("xauc", 1)):
            reference, mean = (rows[m]["metrics"][figure]["mean"] for m in ("lda", name))
            against = rows[name]["against"][figure]
            assert against["difference"] == pytest.approx(sign * (reference - mean), rel=1e-3, abs=1e-5)
            assert against["ci"][0] <= against["difference"] <= against["ci"][1]


def test_windows_follow_each_other_and_test_rows_are_not_fitted_on(evaluator: WatchTimeEvaluator) -> None:
    data = evaluator.data
    time = data.log.timestamp_ms
    assert time[data.fitted].max() < time[data.stop].min()
    assert time[data.stop].max() < time[data.test].min()


def test_heads_with_a_distribution_report_how_often_it_holds(report: Path) -> None:
    rows = read_rows(report)
    for name in ("lda", "tpm"):
        calibration = rows[name]["calibration"]
        assert calibration["below"] == sorted(calibration["below"])
        assert 0 <= calibration["coverage"] <= 1
        coverage = rows[name]["metrics"]["coverage"]["seeds"][0]
        assert coverage == pytest.approx(calibration["coverage"], rel=1e-4)
    assert "calibration" not in rows["vr"]


def test_six_baselines_are_the_papers() -> None:
    assert {m.name for m in METHODS if m.paper} == {"vr", "wlr", "d2q", "or", "cwm", "tpm"}


def test_the_users_parts_make_the_figures(evaluator: WatchTimeEvaluator) -> None:
    seconds = np.random.default_rng(0).gamma(1.0, 20.0, len(evaluator.user))
    figures, values = evaluator.figures(seconds), evaluator.values(seconds)
    for name, measure in evaluator.measures.items():
        mean = np.average(values[measure.values], weights=measure.weight)
        assert abs(mean) == pytest.approx(figures[name], rel=1e-6)


def test_plain_features_are_named_and_do_not_depend_on_parameters(evaluator: WatchTimeEvaluator) -> None:
    data = evaluator.data
    encoder = data.new_encoder(CONFIG.encoder)
    encoder.fit_tables(data.log, data.fitted)
    x = inputs_for(data.log, data.test[:50], 10)
    names, categories = plain_names(data.dataset.profile_numbers, data.dataset.profile_categories)
    before = plain_features(encoder, x)
    assert before.shape == (50, 1, len(names))
    assert all((before[..., i] == before[..., i].round()).all() for i in categories)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(plain_features(encoder, x), before, rtol=0, atol=0)
    np.testing.assert_array_equal(features(encoder, data.log, data.test[:50], 10, None), before[:, 0].numpy())


def test_trees_use_the_features(report: Path) -> None:
    """In this log the watch time follows the duration and the user: a better order than the median's."""
    assert read_rows(report)["lightgbm l1"]["metrics"]["xauc"]["mean"] > 0.55


@pytest.mark.parametrize(
    "protocol", ["kuairec-random", "kuairec-matrices", "kuairec-chronological", "wechat-days", "cwm-wechat"]
)
def test_a_published_log_is_cut_as_papers_do_by_one_option(protocol: str, tmp_path: Path) -> None:
    if "kuairec" in protocol:
        big = [kuairec_row(m % 7, m % 3, m, play_duration=1_000 + 37 * (m % 41)) for m in range(200)]
        small = [kuairec_row(m % 7, m % 3, 300 + m, play_duration=2_000 + 300 * m) for m in range(20)]
        prepare(
            "kuairec", write_kuairec(tmp_path / "k", big=big, small=small), tmp_path / "data", progress=False
        )
    else:
        days = [action(n % 7, n % 3, 1 + n // 15, play=1_000 + 37 * (n % 41)) for n in range(200)]
        prepare("wechat", write_wechat(tmp_path / "w", days), tmp_path / "data", progress=False)
    data = load_data(tmp_path / "data", WatchTimeConfig.model_validate(SETTINGS | {"protocol": protocol}))
    rows = np.concatenate([data.fitted, data.stop, data.test])
    assert len(np.unique(rows)) == len(rows)
    out = tmp_path / "out"
    run_command(*compare(tmp_path / "data", out, "median", "--protocol", protocol, "--seeds", "1"))
    content = json.loads((out / "report.json").read_text())
    assert content["config"]["protocol"] == protocol
    assert content["dataset"]["windows"]["test"]["rows"] == len(data.test)


def test_a_protocol_of_another_dataset_is_refused(data: Path, tmp_path: Path) -> None:
    arguments = compare(data, tmp_path / "out", "median")
    message = refusal(*arguments, "--protocol", "kuairec-random")
    assert "is for kuairec, this log is synthetic" in message
    assert "protocol" in refusal(*arguments, "--protocol", "mine")
