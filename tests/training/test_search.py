"""The search for knobs: it reads no test day, keeps what is finished, and says what it tried."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import polars as pl
import pytest

from models.errors import BadInput
from tests.conftest import done
from training.compare.watch_time import WatchTimeConfig
from training.compare.watch_time._search import journal_path, loss_of, search, suggest
from training.data import SyntheticConfig, prepare
from training.train.rankers import RankerEpoch

KNOBS = {
    "all_tabs": True,
    "loop": {"epochs": 1, "batch_size": 512, "sequence_length": 10},
    "encoder": {"width": 8, "token": 8, "heads": 2, "hidden": 16},
    "lda": {"groups": 3, "dim": 8, "anchors": {"sequences": 128, "epochs": 2}},
}
CONFIG = WatchTimeConfig.model_validate(KNOBS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    world = SyntheticConfig(users=40, videos=80, exposures=1500, days=6)
    (folder / "world.json").write_text(world.model_dump_json())
    prepare("synthetic", folder / "world.json", folder / "data", progress=False)
    return folder / "data"


@pytest.fixture(scope="module")
def record(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "record"
    knobs = out.parent / "knobs.json"
    knobs.write_text(json.dumps(KNOBS))
    more = ("--trials", "2", "--jobs", "1", "--config", knobs)
    said = done("compare", "search", "--data", data, "--out", out, *more)
    assert f"wrote {out / 'search.md'}" in said
    return out


def test_the_record_holds_every_trial_best_first(record: Path) -> None:
    found = json.loads((record / "search.json").read_text())
    assert found["command"].startswith("python -m training compare search --data")
    assert len(found["rows"]) == 2
    assert found["best"] == found["rows"][0]
    assert found["rows"][0]["loss"] <= found["rows"][1]["loss"]
    assert {row["number"] for row in found["rows"]} == {0, 1}
    text = (record / "search.md").read_text()
    assert all(name in text for name in found["best"]["knobs"])
    assert not journal_path(record).exists()


def test_what_happens_on_the_test_days_changes_nothing(record: Path, data: Path, tmp_path: Path) -> None:
    """Watch times of the last two days are turned into nonsense; the trials come out the same."""
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
    found = search(other, tmp_path / "out", CONFIG, trials=1, processes=1)
    first = next(r for r in json.loads((record / "search.json").read_text())["rows"] if r["number"] == 0)
    assert found["rows"][0]["mae_s"] == pytest.approx(first["mae_s"], rel=1e-5)
    assert found["rows"][0]["xauc"] == pytest.approx(first["xauc"], rel=1e-5)


def test_a_record_that_exists_is_not_written_over(record: Path, data: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        search(data, record, CONFIG, trials=1, processes=1)


def test_every_point_of_the_space_is_a_valid_config() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        point = suggest(study.ask(), CONFIG)
        assert WatchTimeConfig.model_validate(point.model_dump()) == point


def test_a_hundredth_of_the_error_weighs_as_much_as_a_hundredth_of_the_order() -> None:
    base = loss_of(RankerEpoch(0, 1.0, 0.0, 20.0, 0.6))
    assert loss_of(RankerEpoch(0, 1.0, 0.0, 20.2, 0.606)) == pytest.approx(base, abs=1e-12)
    assert loss_of(RankerEpoch(0, 1.0, 0.0, 19.8, 0.6)) < base
