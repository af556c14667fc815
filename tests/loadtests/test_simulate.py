"""Simulated users drive a real service, and what it logs joins with their truth."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from loadtests.environment import Service
from loadtests.log_to_promotion import mix_feedback_up
from loadtests.simulate import POSITIONS, app
from models.schema import FLAGS
from models.served_log import LoggedEvent, LoggedSlate, decoded_lines, log_files
from training.simulator import Population, PopulationConfig

USERS = 12


@pytest.fixture(scope="module")
def run(version: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A served log, and the truth of its users."""
    folder = tmp_path_factory.mktemp("simulated")
    log, truth = folder / "log", folder / "truth"
    with Service(version, folder / "data", env={"REELRANK_LOG_DIR": str(log)}) as service:
        options = ["--users", str(USERS), "--sessions", "2", "--videos", "60", "--seed", "3"]
        result = CliRunner().invoke(app, ["--url", service.url, "--out", str(truth), *options])
        assert result.exit_code == 0, result.output
    return log, truth


def events(log: Path) -> list[LoggedEvent]:
    return [event for path in log_files(log, "events") for event in decoded_lines(path, LoggedEvent)]


def rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_every_exposure_of_the_truth_is_an_accepted_event_of_a_logged_slate(run: tuple[Path, Path]) -> None:
    log, truth = run
    logged = events(log)
    assert {event.outcome for event in logged} == {"accepted"}
    assert sorted(e.event_id for e in logged) == sorted(
        str(x["event_id"]) for x in rows(truth / "exposures.ndjson")
    )
    slates = {
        slate.request_id: slate
        for path in log_files(log, "slates")
        for slate in decoded_lines(path, LoggedSlate)
    }
    for event in logged:
        assert event.request_id is not None
        assert event.position is not None
        slate = slates[event.request_id]
        assert slate.user_id == event.user_id
        assert slate.video_id[event.position - 1] == event.video_id
        assert slate.timestamp_ms < event.timestamp_ms
        assert slate.returned == POSITIONS


@pytest.mark.slow
def test_sessions_sum_up_what_was_watched(run: tuple[Path, Path]) -> None:
    log, truth = run
    sessions = rows(truth / "sessions.ndjson")
    assert max(Counter(row["user_id"] for row in sessions).values()) <= 2
    watched_s = sum(event.watch_time_s for event in events(log))
    assert watched_s == pytest.approx(sum(float(str(row["watch_time_s"])) for row in sessions), abs=0.1)


@pytest.mark.slow
def test_the_truth_has_the_population(run: tuple[Path, Path]) -> None:
    _, truth = run
    config = PopulationConfig.model_validate_json((truth / "population.json").read_bytes())
    with np.load(truth / "population.npz") as arrays:
        population = Population.draw(config, seed=3)
        np.testing.assert_array_equal(arrays["user_latent"], population.user_latent)
        np.testing.assert_array_equal(arrays["duration_s"], population.duration_s)


@pytest.mark.slow
def test_mixed_up_feedback_is_all_there_at_other_exposures(run: tuple[Path, Path], tmp_path: Path) -> None:
    log, _ = run
    mix_feedback_up(log, tmp_path / "mixed", seed=0)
    before, after = events(log), events(tmp_path / "mixed")
    assert [e.event_id for e in before] == [e.event_id for e in after]
    names = ("watch_time_s", *FLAGS)
    feedback = [[tuple(getattr(e, name) for name in names) for e in side] for side in (before, after)]
    assert feedback[0] != feedback[1]
    assert sorted(feedback[0]) == sorted(feedback[1])


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--url", "http://127.0.0.1:9", "--out", str(tmp_path)])
    assert result.exit_code == 2


def test_a_service_that_is_away_ends_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--url", "http://127.0.0.1:9", "--out", str(tmp_path / "truth")])
    assert result.exit_code == 2
    assert not (tmp_path / "truth").exists()
