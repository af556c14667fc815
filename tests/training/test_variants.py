"""Variants picked by hand: each knob reaches the fit, and no test day is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from models.errors import BadInput
from tests.conftest import ROOT, done
from training.compare._run import partial_path
from training.compare.watch_time import WatchTimeConfig
from training.compare.watch_time._variants import PROBED, compare_variants, read_variants
from training.data import SyntheticConfig, prepare

KNOBS = {
    "all_tabs": True,
    "seeds": 2,
    "loop": {"epochs": 2, "batch_size": 512, "sequence_length": 10, "interest": 0.0},
    "encoder": {"width": 8, "token": 8, "heads": 2, "hidden": 16},
    "lda": {"groups": 3, "dim": 8, "anchors": {"sequences": 128, "epochs": 2}},
}
CONFIG = WatchTimeConfig.model_validate(KNOBS)
VARIANTS: dict[str, Any] = {
    "as it is": {},
    "rank 30": {"lda": {"rank": 30.0}},
    "or": {"method": "or"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("variants")
    world = SyntheticConfig(users=40, videos=80, exposures=1500, days=6)
    (folder / "world.json").write_text(world.model_dump_json())
    prepare("synthetic", folder / "world.json", folder / "data", progress=False)
    return folder / "data"


@pytest.fixture(scope="module")
def record(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    out = folder / "record"
    (folder / "knobs.json").write_text(json.dumps(KNOBS))
    (folder / "variants.json").write_text(json.dumps(VARIANTS))
    said = done(
        *("compare", "variants", "--data", data, "--out", out, "--variants", folder / "variants.json"),
        *("--config", folder / "knobs.json", "--seeds", "2", "--jobs", "1"),
    )
    assert f"wrote {out / 'variants.md'}" in said
    return out


def _read(record: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((record / "variants.json").read_text())
    return found


def _written(folder: Path, variants: Any) -> Path:
    path = folder / "asked.json"
    path.write_text(json.dumps(variants))
    return path


def test_each_variant_is_a_line_with_a_figure_of_every_seed(record: Path) -> None:
    rows = _read(record)["rows"]
    assert [row["name"] for row in rows] == list(VARIANTS)
    for row in rows:
        assert len(row["mae_s"]["seeds"]) == len(row["xauc"]["seeds"]) == len(row["curves"]) == 2
        assert all(1 <= kept <= len(curve) for kept, curve in zip(row["epochs"], row["curves"], strict=True))
        assert all(found["author"]["requests"] > 0 for found in row["probe"])
    text = (record / "variants.md").read_text()
    assert "## A whole view that becomes a skip" in text
    assert all(f"`{name}`" in text for name in VARIANTS)
    assert "lda.rank=30.0" in text
    assert "method=or" in text
    assert not partial_path(record).exists()


def test_what_is_kept_is_the_epoch_with_the_lowest_error(record: Path) -> None:
    for row in _read(record)["rows"]:
        for mae, xauc, curve in zip(row["mae_s"]["seeds"], row["xauc"]["seeds"], row["curves"], strict=True):
            assert [mae, xauc] == min(curve)


def test_what_a_variant_changes_reaches_the_fit(record: Path) -> None:
    plain, ranked, other = _read(record)["rows"]
    assert plain["curves"] != ranked["curves"]
    assert plain["curves"] != other["curves"]


def test_what_happens_on_the_test_days_changes_nothing(record: Path, data: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(data / "interactions.parquet")
    day = pl.col("timestamp_ms") // 86_400_000
    late = day > day.max() - CONFIG.test_days
    other = tmp_path / "other"
    other.mkdir()
    for path in data.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    nonsense = pl.when(late).then(pl.col("watch_time_s") * 7 + 3).otherwise(pl.col("watch_time_s"))
    changed = table.with_columns(nonsense.cast(table["watch_time_s"].dtype).alias("watch_time_s"))
    assert not changed.equals(table)
    changed.write_parquet(other / "interactions.parquet")
    one = CONFIG.model_copy(update={"seeds": 1})
    asked = read_variants(_written(tmp_path, {"as it is": {}}), one)
    found = compare_variants(other, tmp_path / "out", asked, one, processes=1)
    first = _read(record)["rows"][0]
    assert found["rows"][0]["curves"][0][0] == pytest.approx(first["curves"][0][0], rel=1e-5)


def test_the_variants_of_a_record_are_read_back_as_they_were(record: Path, tmp_path: Path) -> None:
    again = read_variants(record / "variants.json", CONFIG)
    asked = read_variants(_written(tmp_path, VARIANTS), CONFIG)
    assert [(v.name, v.key, v.config) for v in again] == [(v.name, v.key, v.config) for v in asked]


def test_a_finished_fit_is_known_by_what_was_fitted_and_not_by_its_name(tmp_path: Path) -> None:
    rank: dict[str, Any] = {"lda": {"rank": 3.0}}
    one = read_variants(_written(tmp_path, {"a": rank, "b": rank, "c": rank | {"method": "or"}}), CONFIG)
    assert one[0].key == one[1].key
    assert one[0].key != one[2].key


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        ({}, "must hold names and their knobs"),
        ([1], "must hold names and their knobs"),
        ({"a": {"lda": {"rnk": 3}}}, "`lda.rnk` of 'a'"),
        ({"a": {"lda": {"rank": -1}}}, "`lda.rank` of 'a'"),
        ({"a": {"head": {}}}, "a variant changes encoder, loop, lda or the method"),
        ({"a": {"method": "lightgbm l1"}}, "there are lda, vr"),
    ],
)
def test_a_wrong_file_is_refused_by_name(variants: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=says):
        read_variants(_written(tmp_path, variants), CONFIG)


def test_interest_is_not_fitted_to_labels_of_nobody(data: Path, tmp_path: Path) -> None:
    asked = read_variants(_written(tmp_path, {"interest": {"loop": {"interest": 1.0}}}), CONFIG)
    with pytest.raises(BadInput, match="--bundle must say whose labels"):
        compare_variants(data, tmp_path / "out", asked, CONFIG, processes=1)


def test_the_committed_record_says_that_feedback_is_what_makes_the_encoder_fall_for_skips() -> None:
    """A blind encoder is not moved; every other has the author's candidates fall furthest."""
    rows = {
        row["name"]: row for row in _read(ROOT / "training" / "reports" / "encoder-kuairand-pure")["rows"]
    }
    changes = {name: [row["probe"][0][kind]["change"] for kind in PROBED] for name, row in rows.items()}
    assert set(changes.pop("feedback-blind")) == {0.0}
    for author, tag, unrelated, similar in changes.values():
        assert author < tag < unrelated < 0
        assert similar < 0
    best = min(row["mae_s"]["mean"] for row in rows.values())
    assert rows["feedback-blind"]["mae_s"]["mean"] > best + 0.1
