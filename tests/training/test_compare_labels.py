"""`compare labels` as somebody types it: a small world, a report whose figures can be made again by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from models.errors import BadInput
from models.metrics import ds_at_k, neg_at_k, nwtg_at_k
from tests.conftest import ROOT, done
from tests.training.test_compare_jobs import ended
from training.__main__ import app
from training.compare._digest import digest
from training.compare._jobs import Job
from training.compare._knobs import read_knobs
from training.compare._pick import pick
from training.compare.labels._fit import prepare as prepare_jobs
from training.compare.labels._methods import METHODS
from training.compare.labels._world import CompareConfig, open_world
from training.data import SyntheticConfig, prepare
from training.labels import heuristic_label_makers

KNOBS = {
    "test_days": 2,
    "stop_days": 1,
    "meta_days": 2,
    "seeds": 2,
    "cuts": [3, 6],
    "recommender": {"epochs": 2, "batch_size": 512, "history": 10, "duration_groups": 10},
    "labelcraft": {
        "warm_start": False,
        "epochs": 2,
        "batch_size": 512,
        "history": 10,
        "k": 6,
        "hidden": 8,
        "user_share": 1.0,
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA of a world with 40 users."""
    folder = tmp_path_factory.mktemp("compare")
    world = SyntheticConfig(users=40, videos=100, exposures=1500, days=8)
    (folder / "world.json").write_text(world.model_dump_json())
    prepare("synthetic", folder / "world.json", folder / "data", progress=False)
    return folder / "data"


@pytest.fixture(scope="module")
def knobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("knobs") / "knobs.json"
    path.write_text(json.dumps(KNOBS))
    return path


class Story(NamedTuple):
    """A comparison that was stopped by Ctrl-C when the first fits were done, and then asked for again."""

    report: Path
    stopped: int
    """Exit code of the first command."""
    errors: str
    left: list[str]
    """What lay beside the report in between."""
    marked: Job
    """A finished fit, whose seconds were then changed to 10,000."""
    said: str


@pytest.fixture(scope="module")
def story(data: Path, knobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    out = tmp_path_factory.mktemp("report") / "new" / "report"
    arguments = compare(data, out, knobs, "labelcraft,wt,ef,wt+ef")
    command = [sys.executable, "-m", "training", *map(str, arguments), "--jobs", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    partial = out.parent / ".report.partial.jsonl"
    while not partial.exists() or not partial.read_text().endswith("}\n"):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    _, errors = process.communicate(timeout=60)
    ended(process.pid)
    left = [path.name for path in out.parent.iterdir()]
    entry = json.loads(partial.read_text().splitlines()[1])
    entry["result"]["seconds"]["labels"] = 10_000.0
    partial.write_text(json.dumps(entry) + "\n")
    said = done(*arguments)
    return Story(out, process.returncode, errors, left, Job(entry["method"], entry["seed"]), said)


@pytest.fixture(scope="module")
def report(story: Story) -> Path:
    """The report of four methods, with two seeds."""
    return story.report


def compare(data: Path, out: Path, knobs: Path, methods: str, *more: str) -> tuple[str | Path, ...]:
    return ("compare", "labels", "--data", data, "--out", out, "--config", knobs, "--methods", methods, *more)


def rows(report: Path) -> dict[str, Any]:
    return {row["method"]: row for row in json.loads((report / "report.json").read_text())["rows"]}


def test_the_report_has_the_members_of_the_public_surface(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    assert set(found) >= {"command", "commit", "machine", "rows"}
    assert found["command"].startswith("python -m training compare labels --data")
    for row in found["rows"]:
        assert row["refused"] is None
        for name in [f"{name}@{k}" for name in ("nwtg", "neg", "ds") for k in (3, 6)]:
            figure = row["metrics"][name]
            assert len(figure["seeds"]) == 2
            assert figure["mean"] == pytest.approx(np.mean(figure["seeds"]), rel=1e-5)
            assert figure["std"] == pytest.approx(np.std(figure["seeds"], ddof=1), rel=1e-2, abs=1e-6)
            if row["method"] != "labelcraft":
                assert set(row["against"][name]) >= {"difference", "p_value", "ci"}
    assert rows(report)["labelcraft"]["against"] == {}


def test_the_figures_are_those_of_a_fit_by_hand(report: Path, data: Path, knobs: Path) -> None:
    config = CompareConfig.model_validate_json(knobs.read_text())
    world = open_world(data, config)
    found = prepare_jobs(data, config)(Job("wt", 1), lambda _: None)
    score, test = np.array(found["scores"]), world.split.test
    log, want = world.log, rows(report)["wt"]["metrics"]
    user, watched = log.user[test], log.watch_time_s[test]
    for k in (3, 6):
        for name, by_hand in (
            ("nwtg", nwtg_at_k(user, score, watched, k)),
            ("neg", neg_at_k(user, score, log.explicit[test], k)),
            ("ds", ds_at_k(user, score, log.duration_s[test], k)),
        ):
            assert want[f"{name}@{k}"]["seeds"][1] == pytest.approx(by_hand.weighted_mean, rel=1e-4)
            assert want[f"{name}@{k}_plain"]["seeds"][1] == pytest.approx(by_hand.mean, rel=1e-4)
    given = neg_at_k(user, score, log.explicit[test], 6).without_degenerate().weighted_mean
    assert want["neg@6_positive_users"]["seeds"][1] == pytest.approx(given, rel=1e-4)


def test_differences_and_improvements_are_those_of_the_means(report: Path) -> None:
    found = rows(report)
    for name in ("wt", "ef", "wt+ef"):
        for figure, against in found[name]["against"].items():
            ours, theirs = (found[m]["metrics"][figure]["mean"] for m in ("labelcraft", name))
            assert against["difference"] == pytest.approx(ours - theirs, abs=1e-4 + 1e-5 * abs(theirs))
            assert against["relative_improvement"] == pytest.approx((ours - theirs) / theirs, abs=1e-3)
            assert against["ci"][0] <= against["difference"] <= against["ci"][1]


def test_the_front_begins_at_wt_and_ends_at_ef(report: Path) -> None:
    found, front = rows(report), json.loads((report / "report.json").read_text())["front"]
    for name, point in (("wt", front["points"][0]), ("ef", front["points"][-1])):
        for figure in ("nwtg@6", "neg@6", "ds@6"):
            assert point[figure]["mean"] == pytest.approx(found[name]["metrics"][figure]["mean"], rel=1e-5)


def test_the_markdown_has_every_row_and_its_pictures_exist(report: Path) -> None:
    text = (report / "report.md").read_text()
    for name in ("labelcraft", "wt", "ef", "wt+ef"):
        assert f"`{name}`" in text
    for section in ("Where LabelCraft stands", "every column", "What falls short", "How to read it"):
        assert section in text
    pictures = sorted(path.name for path in report.glob("*.png"))
    assert pictures == ["bars.png", "durations.png", "front.png", "labels.png", "learning.png"]
    for name in pictures:
        assert f"({name})" in text
        assert (report / name).stat().st_size < 150_000


def test_ctrl_c_ends_every_process_and_leaves_no_report(story: Story) -> None:
    """That every process has ended, the fixture waited for."""
    assert story.stopped == 130
    assert "Traceback" not in story.errors
    assert "the same command goes on" in story.errors
    assert story.left == [".report.partial.jsonl"]


def test_the_same_command_takes_finished_fits_over(story: Story) -> None:
    assert rows(story.report)[story.marked.method]["seconds"]["labels"] > 4_000
    assert f"wrote {story.report / 'report.md'}" in story.said
    assert [path.name for path in story.report.parent.iterdir()] == [story.report.name]


def test_what_a_method_cannot_do_is_a_row_that_says_so(data: Path, knobs: Path, tmp_path: Path) -> None:
    """Without explicit feedback `ef` is 0 everywhere, and LabelCraft could not learn engagement."""
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    table = pl.read_parquet(data / "interactions.parquet")
    flags = [pl.lit(False).alias(name) for name in ("like", "follow", "comment", "forward")]
    table.with_columns(flags).write_parquet(quiet / "interactions.parquet")
    arguments = compare(
        quiet, tmp_path / "out", knobs, "labelcraft,wt,ef", "--k", "3,6,90", "--seeds", "1", "--jobs", "1"
    )
    app(list(map(str, arguments)), standalone_mode=False)
    found, text = rows(tmp_path / "out"), (tmp_path / "out" / "report.md").read_text()
    assert "explicit feedback" in found["labelcraft"]["refused"]
    assert "explicit feedback" in found["ef"]["refused"]
    assert found["wt"]["refused"] is None
    for name in ("labelcraft", "ef"):
        assert found[name]["metrics"] == {}
        assert f"cannot work here: {found[name]['refused']}" in text
    assert "every NEG is 1" in text
    assert "k = 90 is left out" in text
    assert "nwtg@90" not in found["wt"]["metrics"]


def refusal(*arguments: str | Path) -> str:
    """What the command says; that it becomes one line and exit code 2, `test_cli` shows."""
    with pytest.raises(BadInput) as caught:
        app(list(map(str, arguments)), standalone_mode=False)
    return str(caught.value)


def test_an_unknown_method_is_refused_with_those_there_are(data: Path, knobs: Path, tmp_path: Path) -> None:
    said = refusal(*compare(data, tmp_path / "out", knobs, "wt,nonsense"))
    assert "no method 'nonsense'" in said
    assert "d2q+ef" in said
    assert not list(tmp_path.iterdir())


def test_a_log_with_nobody_to_judge_is_refused(data: Path, knobs: Path, tmp_path: Path) -> None:
    said = refusal(*compare(data, tmp_path / "out", knobs, "wt", "--k", "90"))
    assert "no user has more than 90" in said
    assert not list(tmp_path.iterdir())


def test_a_report_that_exists_is_not_written_over(report: Path, data: Path, knobs: Path) -> None:
    before = (report / "report.json").read_bytes()
    assert "exists already" in refusal(*compare(data, report, knobs, "wt"))
    assert (report / "report.json").read_bytes() == before


@pytest.mark.parametrize(
    ("knob", "says"),
    [({"k": 5}, "k"), ({"cuts": [1]}, "cuts.0"), ({"recommender": {"epochs": -1}}, "recommender.epochs")],
)
def test_a_wrong_knob_is_refused(knob: dict[str, Any], says: str, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "knobs.json"
    path.write_text(json.dumps(knob))
    assert f"`{says}` of the comparison" in refusal(*compare(data, tmp_path / "out", path, "wt"))


def test_the_knobs_of_a_report_can_be_given_again(report: Path, knobs: Path) -> None:
    assert read_knobs(CompareConfig, report / "report.json", {}) == CompareConfig.model_validate_json(
        knobs.read_text()
    )


def test_finished_fits_are_only_those_of_the_same_log_and_knobs(tmp_path: Path) -> None:
    (tmp_path / "interactions.parquet").write_bytes(b"one")
    before = digest(tmp_path, "{}")
    assert digest(tmp_path, "{}") == before
    assert digest(tmp_path, '{"k": 5}') != before
    (tmp_path / "interactions.parquet").write_bytes(b"two")
    assert digest(tmp_path, "{}") != before


def test_every_rule_that_is_served_is_a_row_of_its_own() -> None:
    names = {method.name for method in METHODS if method.labels == (method.name,)}
    assert {rule.name for rule in heuristic_label_makers()} | {"labelcraft"} == names


def test_ablations_come_with_everything_or_when_asked_for() -> None:
    assert {m.name for m in pick(METHODS, None, ablations=None)} == {m.name for m in METHODS}
    assert not any(m.ablation for m in pick(METHODS, None, ablations=False))
    assert [m.name for m in pick(METHODS, "wt, labelcraft", ablations=None)] == ["labelcraft", "wt"]
    assert [m.name for m in pick(METHODS, "labelcraft frozen", ablations=None)] == ["labelcraft frozen"]
    assert sum(m.ablation for m in pick(METHODS, "wt", ablations=True)) == 9
