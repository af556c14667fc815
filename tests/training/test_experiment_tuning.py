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
from training.experiments.engine import partial_path
from training.experiments.search import run_search, stop_loss, suggest
from training.experiments.variants import read_variants, run_variants
from training.experiments.watch_time import WatchTimeConfig
from training.train.rankers import RankerEpoch

pytestmark = pytest.mark.slow

SETTINGS = {
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


@pytest.fixture(scope="module")
def search(data: Path) -> Path:
    record = command("search", data, "--trials", "2")
    assert not list(record.parent.glob("*.journal"))
    return record


def test_the_record_holds_every_trial_best_first(search: Path) -> None:
    content = read(search)
    first, second = content["rows"]
    assert content["best"] == first
    assert first["loss"] <= second["loss"]
    assert {first["number"], second["number"]} == {0, 1}
    text = (search / "search.md").read_text()
    assert all(name in text for name in first["hyperparameters"])


def test_the_test_days_change_no_trial(search: Path, other_test_days: Path, tmp_path: Path) -> None:
    other = run_search(other_test_days, tmp_path / "out", CONFIG, trials=1, processes=1)["best"]
    first = next(row for row in read(search)["rows"] if row["number"] == 0)
    assert (other["mae_s"], other["xauc"]) == pytest.approx((first["mae_s"], first["xauc"]), rel=1e-5)


def test_a_record_that_exists_is_not_overwritten(search: Path, data: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        run_search(data, search, CONFIG, trials=1, processes=1)


def test_every_point_of_the_space_is_a_valid_config() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        point = suggest(study.ask(), CONFIG)
        assert WatchTimeConfig.model_validate(point.model_dump()) == point


def test_a_hundredth_of_the_error_weighs_as_much_as_a_hundredth_of_the_order() -> None:
    base = stop_loss(RankerEpoch(0, 1.0, 0.0, 20.0, 0.6))
    assert stop_loss(RankerEpoch(0, 1.0, 0.0, 20.2, 0.606)) == pytest.approx(base, abs=1e-12)
    assert stop_loss(RankerEpoch(0, 1.0, 0.0, 19.8, 0.6)) < base


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
        for mae_s, xauc, curve in zip(
            row["mae_s"]["seeds"], row["xauc"]["seeds"], row["curves"], strict=True
        ):
            assert [mae_s, xauc] == min(curve)  # the epoch with the lowest error
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
        ({"a": {"method": "lightgbm l1"}}, "there are lda, vr"),
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
