"""`compare search` and `compare variants`: hyperparameters reach the fit, and no test day is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from models.errors import BadInput
from tests.conftest import ROOT
from tests.training._experiments import copy_with_other_test_days, run_command, write_json, write_log
from training.config import merged
from training.experiments.config import load_config
from training.experiments.engine import partial_path
from training.experiments.search import SEARCHED, run_search, select_fits, stop_loss, suggest
from training.experiments.variants import read_variants, run_variants
from training.experiments.watch_time.config import WatchTimeConfig
from training.experiments.watch_time.fits import fit_window
from training.experiments.watch_time.methods import FITS
from training.experiments.watch_time.windows import load_first_window

pytestmark = pytest.mark.slow

SETTINGS = {
    "windows": 1,
    "all_tabs": True,
    "loop": {"epochs": 2, "batch_size": 512, "sequence_length": 10, "interest": 0.0},
    "encoder": {"width": 8, "token": 8, "heads": 2, "hidden": 16},
    "lda": {"groups": 3, "dim": 8, "anchors": {"sequences": 128, "epochs": 2}},
}
CONFIG = WatchTimeConfig.model_validate(SETTINGS)
VARIANTS: dict[str, Any] = {"as it is": {}, "rank 30": {"lda": {"rank": 30.0}}, "or": {"method": "or"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("tuning"), users=40, videos=80, exposures=1500, days=6)


@pytest.fixture(scope="module")
def other_test_days(data: Path) -> Path:
    return copy_with_other_test_days(data, data.parent / "other", CONFIG.test_days)


def command(kind: str, data: Path, *options: str | Path) -> Path:
    """Run a command, and return the folder of its record."""
    out, config = data.parent / kind, write_json(data.parent / "config.json", SETTINGS)
    arguments = ("--data", data, "--out", out, "--config", config, "--jobs", "1")
    assert f"wrote {out / kind}.md" in run_command("compare", kind, *arguments, *options)
    assert sorted(p.name for p in out.iterdir()) == [f"{kind}.json", f"{kind}.md"]
    assert not partial_path(out).exists()
    return out


def read(record: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((record / f"{record.name}.json").read_text())
    return content


# --- search

FITTED = ("lda", "or", "trees rank")


@pytest.fixture(scope="module")
def search(data: Path) -> Path:
    record = command("search", data, "--trials", "2", "--methods", ",".join(FITTED))
    assert not list(record.parent.glob("*.journal"))
    return record


def test_the_record_holds_the_same_number_of_trials_of_every_method_best_first(search: Path) -> None:
    rows = read(search)["rows"]
    assert [row["fit"] for row in rows] == list(FITTED)
    text = (search / "search.md").read_text()
    for row in rows:
        first, second = row["trials"]
        assert row["best"] == first
        assert first["loss"] <= second["loss"]
        assert {first["number"], second["number"]} == {0, 1}
        assert all(name in text for name in first["hyperparameters"])


def test_the_first_draws_of_what_all_heads_share_are_the_same(search: Path) -> None:
    lda, other, _ = (
        {t["number"]: t["hyperparameters"] for t in row["trials"]} for row in read(search)["rows"]
    )
    for number in (0, 1):
        for name in ("loop.learning_rate", "encoder.dropout", "loop.epochs"):
            assert lda[number][name] == other[number][name]


def test_the_record_is_a_config_that_repeats_its_best_trials(search: Path, data: Path) -> None:
    config = load_config(WatchTimeConfig, search / "search.json", {})
    assert set(config.chosen) == set(FITTED)
    window = load_first_window(data, config)
    for row in read(search)["rows"]:
        found = fit_window(window, FITS[row["fit"]], config, config.seed, lambda _: None).stop
        assert found.error == pytest.approx(row["best"]["error"], rel=1e-4)
    assert config.model_copy(update={"chosen": {}}) == CONFIG


def test_the_test_days_change_no_trial(search: Path, other_test_days: Path, tmp_path: Path) -> None:
    fits = select_fits("or")
    (other,) = run_search(other_test_days, tmp_path / "out", fits, CONFIG, trials=1, processes=1)["rows"]
    row = next(row for row in read(search)["rows"] if row["fit"] == "or")
    first = next(trial for trial in row["trials"] if trial["number"] == 0)
    assert (other["best"]["error"], other["best"]["xauc"]) == pytest.approx(
        (first["error"], first["xauc"]), rel=1e-5
    )


def test_cheap_trials_choose_no_number_of_epochs(data: Path, tmp_path: Path) -> None:
    report = run_search(data, tmp_path / "out", select_fits("vr l1"), CONFIG, trials=1, epochs=1, processes=1)
    assert report["rows"][0]["best"]["epochs"] == 1
    assert "epochs" not in report["config"]["chosen"]["vr l1"]["loop"]
    assert report["config"]["loop"] == CONFIG.loop.model_dump(mode="json")


def test_a_record_that_exists_is_not_overwritten(search: Path, data: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        run_search(data, search, SEARCHED, CONFIG, trials=1, processes=1)


def test_a_fit_without_hyperparameters_is_not_searched() -> None:
    assert select_fits(None) == SEARCHED
    with pytest.raises(BadInput, match="no fit 'lda - rank' to search; there are lda"):
        select_fits("lda - rank")


@pytest.mark.parametrize("fit", SEARCHED, ids=lambda fit: fit.name)
def test_every_point_of_the_space_can_be_fitted(fit: Any) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    offered = set()
    for _ in range(30):
        own = suggest(study.ask(), fit)
        offered.add(bool(own.rank or own.head.get("rank")))
        merged(CONFIG.encoder, own.encoder)
        merged(CONFIG.loop, own.loop)
        merged(CONFIG.trees, own.trees)
        if fit.head is not None:
            fit.head(8, merged(CONFIG.lda if fit.config is None else fit.config, own.head))
    assert offered == ({False} if fit.trees else {False, True})  # the rank loss, to all heads


def test_a_hundredth_of_the_error_weighs_as_much_as_a_hundredth_of_the_order() -> None:
    base = stop_loss(20.0, 0.6)
    assert stop_loss(20.2, 0.606) == pytest.approx(base, abs=1e-12)
    assert stop_loss(19.8, 0.6) < base


# --- variants


@pytest.fixture(scope="module")
def variants(data: Path) -> Path:
    path = write_json(data.parent / "variants-to-fit.json", VARIANTS)
    return command("variants", data, "--variants", path, "--seeds", "2")


def test_each_variant_is_a_row_with_a_figure_of_every_seed(variants: Path) -> None:
    rows = read(variants)["rows"]
    assert [row["name"] for row in rows] == list(VARIANTS)
    for row in rows:
        assert len(row["mae_s"]["seeds"]) == len(row["xauc"]["seeds"]) == len(row["curves"]) == 2
        assert all(1 <= best <= len(curve) for best, curve in zip(row["epochs"], row["curves"], strict=True))
        assert all(probe["author"]["requests"] > 0 for probe in row["probe"])
        for mae_s, xauc, curve, best in zip(
            row["mae_s"]["seeds"], row["xauc"]["seeds"], row["curves"], row["epochs"], strict=True
        ):
            assert [mae_s, xauc] == curve[best - 1]
            # Each head stops by what it is fitted for: LDA by the error of its seconds.
            assert row["method"] != "lda" or [mae_s, xauc] == min(curve)
    text = (variants / "variants.md").read_text()
    assert all(f"`{name}`" in text for name in VARIANTS)


def test_what_a_variant_changes_reaches_the_fit(variants: Path) -> None:
    plain, ranked, other = read(variants)["rows"]
    assert plain["curves"] != ranked["curves"]
    assert plain["curves"] != other["curves"]


def test_the_test_days_change_no_variant(variants: Path, other_test_days: Path, tmp_path: Path) -> None:
    one = CONFIG.model_copy(update={"seeds": 1})
    selected = read_variants(write_json(tmp_path / "v.json", {"as it is": {}}), one)
    report = run_variants(other_test_days, tmp_path / "out", selected, one, processes=1)
    first = read(variants)["rows"][0]
    assert report["rows"][0]["curves"][0][0] == pytest.approx(first["curves"][0][0], rel=1e-5)


def test_the_variants_of_a_record_are_read_back(variants: Path, tmp_path: Path) -> None:
    again = read_variants(variants / "variants.json", CONFIG)
    first = read_variants(write_json(tmp_path / "v.json", VARIANTS), CONFIG)
    assert [(v.name, v.key, v.config) for v in again] == [(v.name, v.key, v.config) for v in first]


def test_a_finished_fit_is_known_by_what_was_fitted_and_not_by_its_name(tmp_path: Path) -> None:
    rank: dict[str, Any] = {"lda": {"rank": 3.0}}
    content = {"a": rank, "b": rank, "c": rank | {"method": "or"}}
    first, second, other = read_variants(write_json(tmp_path / "v.json", content), CONFIG)
    assert first.key == second.key
    assert first.key != other.key


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must hold names and their hyperparameters"),
        ([1], "must hold names and their hyperparameters"),
        ({"a": {"lda": {"rnk": 3}}}, "`lda.rnk` of 'a'"),
        ({"a": {"lda": {"rank": -1}}}, "`lda.rank` of 'a'"),
        ({"a": {"head": {}}}, "a variant changes encoder, loop, lda or the method"),
        ({"a": {"method": "trees l1"}}, "there are lda, or"),
    ],
)
def test_a_wrong_file_is_refused_by_name(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        read_variants(write_json(tmp_path / "v.json", content), CONFIG)


def test_interest_is_not_fitted_without_labels(data: Path, tmp_path: Path) -> None:
    content = {"interest": {"loop": {"interest": 1.0}}}
    selected = read_variants(write_json(tmp_path / "v.json", content), CONFIG)
    with pytest.raises(BadInput, match="--bundle must name the labels' version"):
        run_variants(data, tmp_path / "out", selected, CONFIG, processes=1)


def test_in_the_committed_record_feedback_is_what_makes_the_encoder_fall_for_skips() -> None:
    """A blind encoder is not moved; every other has the author's candidates fall furthest."""
    record = ROOT / "training" / "reports" / "encoder-kuairand-pure" / "variants.json"
    rows = {row["name"]: row for row in json.loads(record.read_text())["rows"]}
    kinds = ("author", "tag", "unrelated", "similar")
    changes = {name: [row["probe"][0][kind]["change"] for kind in kinds] for name, row in rows.items()}
    assert set(changes.pop("feedback-blind")) == {0.0}
    for author, tag, unrelated, similar in changes.values():
        assert author < tag < unrelated < 0
        assert similar < 0
    best = min(row["mae_s"]["mean"] for row in rows.values())
    assert rows["feedback-blind"]["mae_s"]["mean"] > best + 0.1
