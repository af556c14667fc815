"""`validate` finds what was planted: a small form of the committed reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.open_bandit import FOLDER, needs_open_bandit
from training.__main__ import app
from training.experiments.validation.coverage import coverage, overlap
from training.experiments.validation.planted_slates import PlantedSlates


@pytest.fixture(scope="module")
def planted() -> PlantedSlates:
    return PlantedSlates.draw(300, seed=0)


def test_intervals_hold_the_planted_value_nineteen_times_in_twenty(planted: PlantedSlates) -> None:
    found = coverage(planted, logs=200, users=200, resamples=200)
    for name in ("SNIPS, position", "DR, position", "SNIPS, cascade", "DR, cascade"):
        assert 0.9 <= found[name]["coverage"] <= 0.985, name
        assert abs(found[name]["bias"]) < 0.25 * found[name]["deviation"], name
    assert found["DR, position"]["deviation"] < found["IPS, position"]["deviation"]
    assert planted.truth > planted.logging_value + 0.5


def test_a_planted_log_has_overlap(planted: PlantedSlates) -> None:
    assert overlap(planted, planted.log(200, seed=1)).refusal is None


def test_the_command_writes_a_report_of_experiments(tmp_path: Path) -> None:
    options = ["--replays", "20", "--users", "400", "--effect", "0.1", "--power-replays", "20"]
    out = tmp_path / "report"
    ran = CliRunner().invoke(app, ["validate", "experiments", "--out", str(out), *options])
    assert ran.exit_code == 0, ran.output
    report = json.loads((out / "report.json").read_text())
    assert [row["power"] > 0.4 for row in report["planted_effect"]] == [True, True]
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "looks.png"}


@needs_open_bandit
def test_the_command_writes_a_report_of_estimates(tmp_path: Path) -> None:
    options = ["--logs", "2", "--users", "50", "--resamples", "100", "--open-bandit", str(FOLDER)]
    out = tmp_path / "report"
    ran = CliRunner().invoke(app, ["validate", "estimates", "--out", str(out), *options])
    assert ran.exit_code == 0, ran.output
    assert {path.name for path in out.iterdir()} == {"report.json", "report.md", "open-bandit.png"}


def test_a_folder_without_the_real_pair_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    arguments = ["validate", "estimates", "--out", str(tmp_path / "report"), "--open-bandit", str(tmp_path)]
    ran = CliRunner().invoke(app, arguments)
    assert "random_all.parquet is missing" in str(ran.exception)
    assert not (tmp_path / "report").exists()
