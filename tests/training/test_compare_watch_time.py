"""`compare watch-time`: its figures made again by hand, every row alike but for the head."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput
from models.metrics import count_pairs, xauc, xgauc
from tests.conftest import done
from tests.training.test_data_kuairec import row as kuairec_row
from tests.training.test_data_kuairec import write as write_kuairec
from tests.training.test_data_wechat import action
from tests.training.test_data_wechat import write as write_wechat
from training.__main__ import app
from training.compare._jobs import Job
from training.compare._pick import pick
from training.compare.watch_time import METHODS, WatchTimeConfig
from training.compare.watch_time._compare import jobs
from training.compare.watch_time._fit import prepare as prepare_jobs
from training.compare.watch_time._judge import Judge
from training.compare.watch_time._trees import features
from training.compare.watch_time._world import open_world
from training.data import SyntheticConfig, prepare
from training.encoders import FeedbackEncoder, inputs_for, plain_features, plain_names
from training.evaluation.concordance import concordance

KNOBS = {
    "seeds": 2,
    "all_tabs": True,
    "loop": {"epochs": 1, "batch_size": 512, "sequence_length": 10},
    "encoder": {"width": 8, "token": 8, "heads": 2, "hidden": 16},
    "lda": {"groups": 3, "dim": 8, "anchors": {"sequences": 128, "epochs": 2, "anchors": 8}},
}
SHOWN = "lda,vr,tpm,lightgbm l1,median"
FEW = st.integers(-3, 3).map(float)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA of a world with 60 users."""
    folder = tmp_path_factory.mktemp("compare")
    world = SyntheticConfig(users=60, videos=100, exposures=3000, days=8)
    (folder / "world.json").write_text(world.model_dump_json())
    prepare("synthetic", folder / "world.json", folder / "data", progress=False)
    return folder / "data"


@pytest.fixture(scope="module")
def knobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("knobs") / "knobs.json"
    path.write_text(json.dumps(KNOBS))
    return path


@pytest.fixture(scope="module")
def report(data: Path, knobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "new" / "report"
    said = done(*compare(data, out, knobs, SHOWN, "--jobs", "2"))
    assert f"wrote {out / 'report.md'}" in said
    return out


def compare(data: Path, out: Path, knobs: Path, methods: str, *more: str) -> tuple[str | Path, ...]:
    options = ("--data", data, "--out", out, "--config", knobs, "--methods", methods)
    return ("compare", "watch-time", *options, *more)


def rows(report: Path) -> dict[str, Any]:
    return {row["method"]: row for row in json.loads((report / "report.json").read_text())["rows"]}


def refusal(*arguments: str | Path) -> str:
    with pytest.raises(BadInput) as caught:
        app(list(map(str, arguments)), standalone_mode=False)
    return str(caught.value)


def test_the_report_has_a_row_for_every_method_and_says_where_it_comes_from(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    assert found["command"].startswith("python -m training compare watch-time --data")
    assert {"commit", "machine", "dataset", "config"} <= set(found)
    assert [row["method"] for row in found["rows"]] == SHOWN.split(",")
    for name, row in rows(report).items():
        assert row["refused"] is None
        figure = row["metrics"]["mae_s"]
        assert len(figure["seeds"]) == (1 if name == "median" else 2)
        assert figure["mean"] == pytest.approx(np.mean(figure["seeds"]), rel=1e-5)


def test_a_fit_is_repeated_to_the_digit(report: Path, data: Path) -> None:
    config = WatchTimeConfig.model_validate(KNOBS)
    found = prepare_jobs(data, config)(Job("vr", 1), lambda _: None)["figures"]
    for name, figure in rows(report)["vr"]["metrics"].items():
        if found[name] is not None:
            assert figure["seeds"][1] == pytest.approx(found[name], rel=1e-4), name


def test_the_median_has_the_error_that_anybody_can_compute(report: Path, data: Path) -> None:
    world = open_world(data, WatchTimeConfig.model_validate(KNOBS))
    watched = world.log.watch_time_s
    by_hand = np.abs(watched[world.test] - np.median(watched[world.known])).mean()
    found = rows(report)["median"]["metrics"]
    assert found["mae_s"]["mean"] == pytest.approx(by_hand, rel=1e-5)
    assert found["xauc"]["mean"] == 0.5


def test_leads_are_those_of_the_means(report: Path) -> None:
    found = rows(report)
    assert found["lda"]["against"] == {}
    for name in ("vr", "tpm", "lightgbm l1", "median"):
        for figure, sign in (("mae_s", -1), ("xauc", 1)):
            ours, theirs = (found[m]["metrics"][figure]["mean"] for m in ("lda", name))
            against = found[name]["against"][figure]
            assert against["difference"] == pytest.approx(sign * (ours - theirs), rel=1e-3, abs=1e-5)
            assert against["ci"][0] <= against["difference"] <= against["ci"][1]


def test_windows_follow_each_other_and_test_rows_are_not_learned_from(data: Path) -> None:
    world = open_world(data, WatchTimeConfig.model_validate(KNOBS))
    at = world.log.timestamp_ms
    assert at[world.known].max() < at[world.stop].min()
    assert at[world.stop].max() < at[world.test].min()


def test_heads_with_a_distribution_say_how_often_it_holds(report: Path) -> None:
    found = rows(report)
    for name in ("lda", "tpm"):
        said = found[name]["calibration"]
        below = said["below"]
        assert below == sorted(below)
        assert 0 <= said["coverage"] <= 1
        assert found[name]["metrics"]["coverage"]["seeds"][0] == pytest.approx(said["coverage"], rel=1e-4)
    assert "calibration" not in found["vr"]


def test_the_markdown_has_every_row_and_its_pictures_exist(report: Path) -> None:
    text = (report / "report.md").read_text()
    for name in SHOWN.split(","):
        assert f"`{name}`" in text
    for section in ("How to read it", "Where LDA stands", "By duration", "Are the quantiles right?"):
        assert section in text
    pictures = sorted(path.name for path in report.glob("*.png"))
    assert pictures == ["anchors.png", "bars.png", "predicted.png", "reliability.png"]
    for name in pictures:
        assert f"({name})" in text
        assert (report / name).stat().st_size < 150_000


def test_the_learning_curve_is_that_of_the_fit(report: Path) -> None:
    text = (report / "report.md").read_text().partition("## How far more epochs lead")[2]
    for name, row in rows(report).items():
        for epoch in row.get("curve", ()):
            # The JSON is rounded too: where it ends in a 5, the page may have been rounded the other way.
            mae_s, xauc = epoch["stop_mae_s"], epoch["stop_xauc"]
            ways = {f"{mae_s + a:.3f} / {xauc + b:.4f}" for a in (-1e-6, 1e-6) for b in (-1e-6, 1e-6)}
            assert any(way in text for way in ways), name


def test_a_second_run_does_not_write_over_the_first(report: Path, data: Path, knobs: Path) -> None:
    before = (report / "report.json").read_bytes()
    assert "exists already" in refusal(*compare(data, report, knobs, "median"))
    assert (report / "report.json").read_bytes() == before


def test_wrong_input_is_refused_before_anything_is_fitted(data: Path, knobs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = refusal(*compare(data, out, knobs, "vr,nonsense"))
    assert "no method 'nonsense'" in said
    assert "cread" in said
    assert "days" in refusal(*compare(data, out, knobs, "vr", "--test-days", "30"))
    assert not list(tmp_path.iterdir())


def test_ablations_come_with_everything_or_when_asked_for() -> None:
    assert {m.name for m in pick(METHODS, None, ablations=None)} == {m.name for m in METHODS}
    assert not any(m.ablation for m in pick(METHODS, None, ablations=False))
    assert [m.name for m in pick(METHODS, "vr, lda", ablations=None)] == ["lda", "vr"]


@pytest.mark.parametrize(("seeds", "asked", "each"), [(5, 3, 3), (5, None, 5), (2, 3, 2)])
def test_ablation_rows_may_be_fitted_less_often_than_the_table(
    seeds: int, asked: int | None, each: int
) -> None:
    config = WatchTimeConfig(seed=7, seeds=seeds, ablation_seeds=asked)
    found = Counter(job.method for job in jobs(METHODS, config))
    assert {found[m.name] for m in METHODS if m.ablation} == {each}
    assert {found[m.name] for m in METHODS if not m.ablation and not m.constant} == {seeds}
    assert {job.seed for job in jobs(METHODS, config) if job.method == "lda - rank"} == set(
        range(7, 7 + each)
    )


def test_six_baselines_are_the_papers() -> None:
    assert {m.name for m in METHODS if m.paper} == {"vr", "wlr", "d2q", "or", "cwm", "tpm"}


# --- figures


@given(st.lists(st.tuples(FEW, FEW), min_size=2, max_size=30))
def test_the_rows_parts_add_up_to_xauc(pairs: list[tuple[float, float]]) -> None:
    prediction, target = (np.array(column) for column in zip(*pairs, strict=True))
    right, among = concordance(prediction, target)
    found = count_pairs(prediction, target)
    assert among.sum() == 2 * (found.total - found.target_ties)
    assert right.sum() == 2 * found.concordant + found.prediction_ties


@given(st.lists(st.tuples(st.integers(0, 4), FEW, FEW), max_size=40))
def test_xgauc_is_the_mean_of_the_users_xauc(given_rows: list[tuple[int, float, float]]) -> None:
    user, prediction, target = (np.array([row[i] for row in given_rows]) for i in range(3))
    total = weight = 0.0
    for u in np.unique(user):
        mine = user == u
        own = xauc(prediction[mine], target[mine])
        if own is not None:
            total, weight = total + mine.sum() * own, weight + mine.sum()
    want = total / weight if weight else None
    assert xgauc(user, prediction, target) == (None if want is None else pytest.approx(want))


def test_the_users_parts_make_the_figures(data: Path) -> None:
    world = open_world(data, WatchTimeConfig.model_validate(KNOBS))
    judge = Judge(world.log, world.known, world.test)
    seconds = np.random.default_rng(0).gamma(1.0, 20.0, len(world.test))
    figures, values = judge.figures(seconds), judge.values(seconds)
    for name, measure in judge.measures().items():
        mean = np.average(values[measure.values], weights=measure.weight)
        assert abs(mean) == pytest.approx(figures[name], rel=1e-6)


# --- trees


def test_plain_features_are_named_and_do_not_depend_on_parameters(data: Path) -> None:
    world = open_world(data, WatchTimeConfig.model_validate(KNOBS))
    prepared = world.dataset
    config = WatchTimeConfig.model_validate(KNOBS).encoder
    sizes = tuple(world.vocabulary.size(n) for n in ("video_id", "author_id", "tag", "tab"))
    encoder = FeedbackEncoder(sizes, 0, (), config)  # type: ignore[arg-type]
    encoder.fit_tables(world.log, world.known)
    x = inputs_for(world.log, world.test[:50], 10)
    names, categories = plain_names(prepared.profile_numbers, prepared.profile_categories)
    before = plain_features(encoder, x)
    assert before.shape == (50, 1, len(names))
    assert all((before[..., i] == before[..., i].round()).all() for i in categories)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1.0)
    torch.testing.assert_close(plain_features(encoder, x), before, rtol=0, atol=0)
    found = features(encoder, world, world.test[:50], 10, None)
    np.testing.assert_array_equal(found, before[:, 0].numpy())


def test_trees_see_what_is_there_to_see(report: Path) -> None:
    """In this world the watch time follows the duration and the user: better than the median in order."""
    assert rows(report)["lightgbm l1"]["metrics"]["xauc"]["mean"] > 0.55


# --- published protocols


@pytest.mark.parametrize(
    "protocol", ["kuairec-random", "kuairec-matrices", "kuairec-chronological", "wechat-days", "cwm-wechat"]
)
def test_a_published_log_is_cut_as_papers_do_by_one_option(protocol: str, tmp_path: Path) -> None:
    name = "kuairec" if "kuairec" in protocol else "wechat"
    if name == "kuairec":
        rows_ = [kuairec_row(m % 7, m % 3, m, play_duration=1_000 + 37 * (m % 41)) for m in range(200)]
        few = [kuairec_row(m % 7, m % 3, 300 + m, play_duration=2_000 + 300 * m) for m in range(20)]
        source = write_kuairec(tmp_path / "k", big=rows_, small=few)
    else:
        days = [action(n % 7, n % 3, 1 + n // 15, play=1_000 + 37 * (n % 41)) for n in range(200)]
        source = write_wechat(tmp_path / "w", days)
    prepare(name, source, tmp_path / "data", progress=False)
    config = WatchTimeConfig.model_validate(KNOBS | {"protocol": protocol})
    world = open_world(tmp_path / "data", config)
    dealt = np.concatenate([world.known, world.stop, world.test])
    assert len(np.unique(dealt)) == len(dealt)
    knobs = tmp_path / "knobs.json"
    knobs.write_text(json.dumps(KNOBS))
    out = tmp_path / "out"
    more = ("--protocol", protocol, "--seeds", "1", "--jobs", "1")
    app(list(map(str, compare(tmp_path / "data", out, knobs, "median", *more))), standalone_mode=False)
    found = json.loads((out / "report.json").read_text())
    assert found["config"]["protocol"] == protocol
    assert found["dataset"]["windows"]["test"]["rows"] == len(world.test)


def test_a_protocol_of_another_data_set_is_refused(data: Path, knobs: Path, tmp_path: Path) -> None:
    said = refusal(*compare(data, tmp_path / "out", knobs, "median", "--protocol", "kuairec-random"))
    assert "is of kuairec, this log is of synthetic" in said
    assert "protocol" in refusal(*compare(data, tmp_path / "out", knobs, "median", "--protocol", "mine"))
