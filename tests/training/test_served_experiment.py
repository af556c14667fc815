"""The report of an experiment is of what a service has logged."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from models.errors import BadInput
from models.experiment_report import ExperimentReport
from models.served_log import LoggedEvent, LoggedSlate
from models.store import BundleStore
from tests.conftest import ROOT
from training.__main__ import app
from training.data import DAY_MS
from training.experiments.served_experiment import report_experiment

START, HOUR = 20_000 * DAY_MS, 3_600_000
USERS, DAYS = 200, 3


def slate(user: int, timestamp_ms: int, arm: str | None, experiment: str | None = "longer") -> LoggedSlate:
    return LoggedSlate(
        request_id=f"r{user}-{timestamp_ms}",
        user_id=f"u{user}",
        timestamp_ms=timestamp_ms,
        model_version="20260101-00000001",
        weights={"watch_time": 1.0},
        returned=1,
        history_length=0,
        video_id=["v1"],
        score=[0.5],
        experiment=experiment,
        arm=arm,
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days before the start and three after it; arm `new` makes users watch half as long again. Some
    users are in no experiment, some in another."""
    folder = tmp_path_factory.mktemp("log")
    random = np.random.default_rng(0)
    slates: list[LoggedSlate] = []
    events: list[LoggedEvent] = []
    for user in range(USERS):
        arm, habit = ("old", "new")[user % 2], random.lognormal(2.0, 0.4)
        for day in range(-DAYS, DAYS):
            moment = START + day * DAY_MS + user * 1000
            if day >= 0:
                slates.append(slate(user, moment, arm))
            seconds = habit * random.gamma(5.0, 0.2) * (1.5 if arm == "new" and day >= 0 else 1.0)
            events.append(
                LoggedEvent(
                    event_id=f"{user}-{day}",
                    user_id=f"u{user}",
                    video_id="v1",
                    timestamp_ms=moment + 1000,
                    watch_time_s=float(seconds),
                    duration_s=30.0,
                    outcome="accepted",
                    logged_at_ms=moment + 2000,
                )
            )
    slates += [slate(USERS, START, None, None), slate(USERS + 1, START, "x", "other")]
    for name, lines in (("slates-1.ndjson", slates), ("events-1.ndjson", events)):
        (folder / name).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return folder


def test_a_logged_experiment_is_reported_with_its_pictures(log: Path, tmp_path: Path) -> None:
    report = report_experiment("longer", log, tmp_path / "report", arms=["old", "new"], smallest_effect=0.1)
    found = report["metrics"]["watch_time_s"]["new"]
    assert found["relative_interval"][0] < 0.5 < found["relative_interval"][1]
    assert found["variance_removed"] > 0.3
    assert report["control"] == "old"
    assert [one["users"] for one in report["arms"]] == [USERS // 2, USERS // 2]
    assert len(report["looks"]) == DAYS
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"report.json", "report.md", "metrics.png", "looks.png"}
    text = (tmp_path / "report" / "report.md").read_text()
    assert "The arms are as large as planned" in text
    json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=pytest.fail)
    shown = msgspec.json.decode((tmp_path / "report" / "report.json").read_bytes(), type=ExperimentReport)
    assert [look.arms["new"].relative for look in shown.looks][-1] == pytest.approx(found["relative"])


def test_the_command_prints_every_metric(log: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["experiment", "longer", "--log", str(log), "--out", str(tmp_path / "report")]
    ran = CliRunner().invoke(app, [*arguments, "--arms", "old,new", "--json", str(figures)])
    assert ran.exit_code == 0, ran.output
    assert "sample ratio p = 1" in ran.output
    assert "skip_rate" in ran.output
    found = json.loads(figures.read_text())["metrics"]["watch_time_s"]["new"]
    wanted = {"mean", "difference", "relative", "interval", "p_value", "always_valid_interval"}
    assert wanted <= set(found)


def test_labels_are_a_metric_where_a_bundle_is_given(log: Path, tmp_path: Path) -> None:
    bundle = BundleStore(ROOT / "models" / "bundles")
    arguments = ["experiment", "longer", "--log", str(log), "--out", str(tmp_path / "report")]
    ran = CliRunner().invoke(app, [*arguments, "--bundle", str(bundle.path(bundle.current()))])
    assert ran.exit_code == 0, ran.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    found = report["metrics"]["label"]
    assert found["new"]["mean"] > found["old"]["mean"] > 0
    assert f"labels of bundle `{bundle.current()}`" in (tmp_path / "report" / "report.md").read_text()


def test_an_unknown_experiment_is_refused_with_those_of_the_log(log: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no slate of an experiment 'shorter'; it has longer, other"):
        report_experiment("shorter", log, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_an_unknown_arm_is_refused(log: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="arm 'odd' has 0 users"):
        report_experiment("longer", log, tmp_path / "report", arms=["old", "odd"])
