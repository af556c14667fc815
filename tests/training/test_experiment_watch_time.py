"""`compare watch-time`: its figures computed by hand, every row alike but for the head."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import BadInput
from models.metrics import xgauc
from tests.training import _watch_time_asserts as wt
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
from training.evaluation.predict import predict_seconds
from training.experiments.engine import grid
from training.experiments.results import decode
from training.experiments.watch_time.config import Hyperparameters, WatchTimeConfig
from training.experiments.watch_time.evaluator import WatchTimeEvaluator
from training.experiments.watch_time.experiment import fit_method, load_evaluator
from training.experiments.watch_time.fits import fit_head
from training.experiments.watch_time.methods import FITS, METHODS, rows_of
from training.experiments.watch_time.rank_loss import with_rank_loss
from training.experiments.watch_time.readouts import (
    Distribution,
    Predicted,
    fit_median_map,
    fit_summary_trees,
    predict,
    read,
)
from training.experiments.watch_time.windows import load_first_window, load_window
from training.trees import TreesConfig, features, fit_trees
from training.watch_time import OR, VR, DistributionHead, RankLoss

pytestmark = pytest.mark.slow

SETTINGS = {
    "seeds": 2,
    "windows": 2,
    "resamples": 200,
    "all_tabs": True,
    "loop": {"epochs": 1, "batch_size": 512, "sequence_length": 10},
    "encoder": {"width": 8, "token": 8, "heads": 2, "hidden": 16},
    "lda": {"groups": 3, "dim": 8, "anchors": {"sequences": 128, "epochs": 2, "anchors": 8}},
}
CONFIG = WatchTimeConfig.model_validate(SETTINGS)
SELECTED = ["lda", "lda mean", "tpm median", "tpm mean", "vr l1", "wlr median", "trees rank", "median"]


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
    readouts = fit_method(evaluator, "tpm", CONFIG, 1, lambda _: None)["readouts"]
    for row in ("tpm median", "tpm mean"):
        for name, figure in read_rows(report)[row]["metrics"].items():
            if readouts[row]["figures"][name] is not None:
                assert figure["seeds"][1] == pytest.approx(readouts[row]["figures"][name], rel=1e-4), name


def test_rows_of_one_fit_are_fitted_once() -> None:
    rows = [method for method in METHODS if method.name.startswith(("tpm", "or"))]
    assert [job.method for job in grid(rows, WatchTimeConfig(seeds=1))] == ["or", "tpm"]
    assert {method.fit for method in METHODS} == set(FITS)
    assert all(rows_of(fit) for fit in FITS)


def test_every_distribution_answers_with_its_median_and_mean_and_every_regression_has_both_losses() -> None:
    names = {method.name for method in METHODS}
    assert {f"{fit} {kind}" for fit in ("lda", "or", "tpm", "cread") for kind in ("median", "mean")} <= names
    assert {f"{fit} {loss}" for fit in ("vr", "d2q", "dml", "cwm", "trees") for loss in ("l1", "l2")} <= names


def test_the_median_has_the_error_of_the_median_by_hand(report: Path, evaluator: WatchTimeEvaluator) -> None:
    away = [
        np.abs(data.log.watch_time_s[data.test] - np.median(data.log.watch_time_s[data.fitted]))
        for data in evaluator.windows
    ]
    row = read_rows(report)["median"]
    assert row["metrics"]["mae_s"]["mean"] == pytest.approx(np.concatenate(away).mean(), rel=1e-5)
    assert row["windows"]["mae_s"] == pytest.approx([part.mean() for part in away], rel=1e-5)
    assert row["metrics"]["xauc"]["mean"] == 0.5


def test_differences_are_those_of_the_means(report: Path) -> None:
    rows = read_rows(report)
    assert rows["lda"]["against"].keys() == {"rmse_s"}
    for name in SELECTED[2:]:
        for figure, sign in (("mae_s", -1), ("rmse_s", -1), ("xauc", 1), ("xgauc", 1)):
            against_row = "lda mean" if figure == "rmse_s" else "lda"
            reference, mean = (rows[m]["metrics"][figure]["mean"] for m in (against_row, name))
            against = rows[name]["against"][figure]
            assert against["difference"] == pytest.approx(sign * (reference - mean), rel=2e-3, abs=1e-4)
            assert against["ci"][0] <= against["ci"][1]
            assert against["p_adjusted"] >= against["p_value"]


def test_the_power_of_every_column_is_in_the_report(report: Path) -> None:
    power = json.loads((report / "report.json").read_text())["power"]
    assert set(power) == {"mae_s", "rmse_s", "xauc", "xgauc", "gauc_long_view", "crps", "pinball"}
    assert all(figure["detectable"] > 0 for figure in power.values())


def test_windows_follow_each_other_and_nothing_later_is_in_their_log(evaluator: WatchTimeEvaluator) -> None:
    first, last = evaluator.windows
    for data in (first, last):
        time = data.log.timestamp_ms
        assert time[data.fitted].max() < time[data.stop].min()
        assert time[data.stop].max() < time[data.test].min()
        assert time[data.test].max() == time.max()
    assert first.log.timestamp_ms.max() < last.log.timestamp_ms[last.test].min()
    assert first.log.user_ids == last.log.user_ids  # so that the bootstrap draws a user with both


def test_a_short_log_has_fewer_windows(data: Path) -> None:
    many = CONFIG.model_copy(update={"windows": 50})
    assert len(load_evaluator(data, many).windows) == 3
    first = load_first_window(data, many)
    assert first.log.timestamp_ms.max() < load_window(data, many, 1).log.timestamp_ms.max()


def test_a_distribution_is_measured_once_a_fit(report: Path) -> None:
    rows = read_rows(report)
    for name in ("lda", "tpm median", "median"):
        metrics = {figure: value["mean"] for figure, value in rows[name]["metrics"].items()}
        below = [metrics[f"below_{level}"] for level in ("p10", "p50", "p90")]
        assert below == sorted(below)
        assert 0 <= metrics["coverage"] <= 1
        assert metrics["pinball"] == pytest.approx(
            np.mean([metrics[f"pinball_{level}"] for level in ("p10", "p50", "p90")]), rel=1e-4
        )
        assert metrics["crps"] > 0
    assert "crps" not in rows["tpm mean"]["metrics"]
    assert "crps" not in rows["vr l1"]["metrics"]


def test_six_baselines_are_the_papers() -> None:
    fits = {m.fit.split()[0] for m in METHODS if m.paper}
    assert fits == {"vr", "wlr", "d2q", "or", "cwm", "tpm"}


def test_the_users_parts_make_the_figures(evaluator: WatchTimeEvaluator) -> None:
    random = np.random.default_rng(0)
    scores = []
    for index, window in enumerate(evaluator.evaluators):
        by_row, by_request = random.gamma(1.0, 20.0, (2, len(window.user)))
        value = random.gamma(1.0, 20.0, (len(window.user), 4)).astype(np.float32)
        distribution = Distribution(np.sort(value[:, :3]), value.mean(axis=1), value[:, :3], value[:, 3])
        scores.append(evaluator.scores(index, by_row, by_request, distribution))
    joined = evaluator.join(scores)
    for name, (values, weight_V, of_mean) in evaluator.measures.items():
        value_V = decode(joined["values"][values])
        mean = np.nansum(value_V * weight_V) / weight_V.sum()
        assert weight_V.sum() == pytest.approx(sum(len(window.user) for window in evaluator.evaluators))
        figure = mean if of_mean is None else float(of_mean(mean))
        assert abs(figure) == pytest.approx(joined["figures"][name], rel=1e-5), name


def test_the_order_within_users_is_that_of_one_request(evaluator: WatchTimeEvaluator) -> None:
    config = CONFIG.model_copy(update={"windows": 1})
    alone = WatchTimeEvaluator(evaluator.windows[-1:])
    data, length = alone.data, CONFIG.loop.sequence_length
    ranker, _ = fit_head(data, FITS["d2q l1"], config, 0, lambda _: None)
    user, watched = alone.evaluators[0].user, alone.evaluators[0].watched
    within = [
        xgauc(user, predict_seconds(ranker, data.log, data.test, length, history_at=at), watched)
        for at in ("request", "row")
    ]
    figures = fit_method(alone, "d2q l1", config, 0, lambda _: None)["readouts"]["d2q l1"]["figures"]
    assert figures["xgauc"] == pytest.approx(within[0], rel=1e-9)
    assert within[0] != within[1]


# --- readouts and losses


def test_readouts_are_the_medians_and_means_of_the_head(evaluator: WatchTimeEvaluator) -> None:
    data, length = evaluator.data, CONFIG.loop.sequence_length
    ranker, _ = fit_head(data, FITS["or"], CONFIG, 0, lambda _: None)
    found, length_R = predict(ranker, data.log, data.test[:64], length), data.log.duration_s[data.test[:64]]
    x = inputs_for(data.log, data.test[:64], length)
    with torch.no_grad():
        state, duration = ranker.encoder(x)
        assert isinstance(ranker.head, DistributionHead)
        want = ranker.head.predict(state, duration)
    np.testing.assert_allclose(read(found, "median", length_R), want.quantiles_s[:, 0, 1].numpy(), rtol=1e-5)
    np.testing.assert_allclose(read(found, "mean", length_R), want.mean_s[:, 0].numpy(), rtol=1e-5)
    np.testing.assert_allclose(read(found, "point", length_R), want.seconds[:, 0].numpy(), rtol=1e-5)


def test_the_map_to_medians_rises_and_repairs_a_scale() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(1, 100, 20_000)
    watched = truth * random.exponential(1.0, len(truth))  # its median is truth · ln 2
    duration = np.ones(len(truth), np.float32)
    median_map = fit_median_map(Predicted(7 * truth), duration, watched.astype(np.float32))
    mapped = median_map(Predicted(7 * np.linspace(5, 95, 50)), duration[:50])
    assert (np.diff(mapped) >= 0).all()
    np.testing.assert_allclose(mapped, np.linspace(5, 95, 50) * np.log(2), rtol=0.25)


def test_trees_of_the_summary_learn_what_the_distribution_says_and_the_answer_does_not() -> None:
    """The median hides in the first state; the answered seconds are noise."""
    random = np.random.default_rng(0)
    truth = random.uniform(1, 100, 4000).astype(np.float32)
    watched = truth * random.uniform(0.9, 1.1, len(truth)).astype(np.float32)
    noise = random.uniform(1, 100, (4000, 4)).astype(np.float32)
    states = np.stack([truth / 100, truth * 0, truth * 0], axis=1)
    predicted = Predicted(noise[:, 0], Distribution(np.sort(noise[:, 1:]), noise[:, 0], states, noise[:, 0]))
    learned = fit_summary_trees(predicted, noise[:, 0], watched)
    assert np.abs(learned(predicted, noise[:, 0]) - truth).mean() < 5


@pytest.mark.parametrize("kind", [VR, OR])
def test_a_rank_loss_is_added_and_nothing_else_changes(kind: type[VR] | type[OR]) -> None:
    log = wt.heavy_tailed_log()
    torch.manual_seed(0)
    head = kind(wt.STATE)
    ranked = with_rank_loss(head, 3.0).fit_tables(log, seed=0)
    state, duration = wt.states(40)
    watched = torch.from_numpy(log.watch_time_s[:40])
    order = RankLoss().fit(log.watch_time_s)(head.seconds(state, duration), watched)
    torch.testing.assert_close(
        ranked.loss(state, duration, watched), head.loss(state, duration, watched) + 3 * order
    )
    torch.testing.assert_close(ranked.seconds(state, duration), head.seconds(state, duration))
    assert isinstance(ranked, DistributionHead) == isinstance(head, DistributionHead)
    assert with_rank_loss(head, 0.0) is head


def test_what_was_chosen_for_a_fit_reaches_it_and_its_ablations_alone(evaluator: WatchTimeEvaluator) -> None:
    chosen = {"lda": Hyperparameters(encoder={"width": 12}, head={"dim": 6}, loop={"epochs": 2})}
    config = CONFIG.model_copy(update={"chosen": chosen})
    for name, width, dim in (("lda", 12, 6), ("lda - rank", 12, 6), ("vr l1", 8, None)):
        ranker, epochs = fit_head(evaluator.data, FITS[name], config, 0, lambda _: None)
        assert ranker.encoder.config.width == width
        assert len(epochs) == (2 if dim else 1)
        assert dim is None or ranker.head.config.dim == dim  # type: ignore[attr-defined]  # of LDA
    wrong = CONFIG.model_copy(update={"chosen": {"vr l1": Hyperparameters(head={"anchors": 3})}})
    with pytest.raises(BadInput, match="`anchors` of what was chosen for 'vr l1'"):
        fit_head(evaluator.data, FITS["vr l1"], wrong, 0, lambda _: None)


def test_quick_keeps_what_a_config_chose_and_makes_it_short() -> None:
    chosen = {"lda": Hyperparameters(loop={"epochs": 6, "average": 0.9}, head={"dim": 6})}
    quick = CONFIG.model_copy(update={"chosen": chosen}).quick()
    assert (quick.windows, quick.seeds, quick.loop.epochs) == (1, 1, 2)
    assert quick.chosen["lda"].loop == {"average": 0.9}
    assert quick.chosen["lda"].head == {"dim": 6}
    assert quick.encoder == CONFIG.encoder


# --- trees


def test_trees_of_ranks_answer_with_a_quantile_of_the_training_rows() -> None:
    random = np.random.default_rng(0)
    feature = random.uniform(0, 1, (4000, 1)).astype(np.float32)
    watched = np.exp(4 * feature[:, 0]).astype(np.float32)
    config = TreesConfig(rounds=200, rows_per_leaf=5)
    trees = fit_trees("rank", (feature, watched), (feature, watched), [], config, seed=0)
    predicted = trees.seconds(feature)
    assert watched.min() <= predicted.min()
    assert predicted.max() <= watched.max()
    np.testing.assert_allclose(predicted, watched, rtol=0.2)


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
    np.testing.assert_array_equal(features(encoder, data.log, data.test[:50], 10), before[:, 0].numpy())


def test_trees_use_the_features(report: Path) -> None:
    """In this log the watch time follows the duration and the user: a better order than the median's."""
    assert read_rows(report)["trees rank"]["metrics"]["xauc"]["mean"] > 0.55


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
    data = load_window(tmp_path / "data", WatchTimeConfig.model_validate(SETTINGS | {"protocol": protocol}))
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
