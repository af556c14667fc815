"""The engine: jobs run side by side, finished ones are never repeated, rows are compared user by user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from models.errors import BadInput
from tests.conftest import ROOT
from tests.training._diary import JOBS, checkpoint, run_diary, wait_until_ended
from tests.training._experiments import read_rows, refusal, run_command, write_json, write_log
from training.experiments.config import ExperimentConfig, MethodSpec, load_config, select_methods
from training.experiments.engine import digest, grid, partial_path
from training.experiments.jobs import Job, Outcome
from training.experiments.results import SeedSummary, summarize_seeds
from training.experiments.results import write_json as write_report_json

REFUSED = Job("refused", 0)
METHODS = (
    MethodSpec("lda", "anchors"),
    MethodSpec("vr", "regression"),
    MethodSpec("median", "", constant=True),
    MethodSpec("lda - rank", "no rank", ablation=True),
)

# --- jobs


def read_diary(folder: Path) -> list[str]:
    return sorted((folder / "diary").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_every_job_is_done_once_a_refusal_is_an_outcome_and_progress_reaches_one(
    processes: int, tmp_path: Path
) -> None:
    shares: list[float] = []
    outcomes = run_diary(tmp_path, [REFUSED, *JOBS], shares, processes=processes)
    done = {job: Outcome({"seed": job.seed, "interruptible": processes == 1}, None) for job in JOBS}
    assert outcomes == done | {REFUSED: Outcome({}, "no explicit feedback")}
    assert read_diary(tmp_path) == ["a 0", "a 1", "b 0", "b 1"]
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)
    assert run_diary(tmp_path, [REFUSED, *JOBS]) == outcomes  # from the checkpoint
    assert read_diary(tmp_path) == ["a 0", "a 1", "b 0", "b 1"]


def test_a_bug_is_reported_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)broken with seed 0.*line.*ZeroDivisionError: a bug"):
        run_diary(tmp_path, [Job("broken", 0)], processes=1)


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    checkpoint(tmp_path).add(JOBS[0], Outcome({"seed": 0}, None))
    with pytest.raises(BadInput, match="fewer --jobs"):
        run_diary(tmp_path, [JOBS[0], Job("killed", 0)])
    assert set(checkpoint(tmp_path).read()) == {JOBS[0]}


@pytest.mark.slow
def test_a_killed_command_continues_and_its_processes_end(tmp_path: Path) -> None:
    waits = Job("waits", 0)
    code = f"from tests.training._diary import *\nrun_diary(Path({str(tmp_path)!r}), [JOBS[0], {waits!r}])"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    while not checkpoint(tmp_path).read():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    (tmp_path / "gate").touch()
    wait_until_ended(process.pid)  # the worker found its connection closed before it wrote into the diary
    assert set(run_diary(tmp_path, [JOBS[0], waits], processes=1)) == {JOBS[0], waits}
    assert read_diary(tmp_path) == ["a 0", "waits 0"]


def test_an_incomplete_line_is_skipped_and_hides_none_after_it(tmp_path: Path) -> None:
    log = checkpoint(tmp_path)
    log.add(JOBS[0], Outcome({"seed": 0}, None))
    complete = log.path.read_text()
    log.path.write_text(complete + complete.strip()[:-7])
    log.add(JOBS[1], Outcome({}, "why"))
    assert log.read() == {JOBS[0]: Outcome({"seed": 0}, None), JOBS[1]: Outcome({}, "why")}
    assert checkpoint(tmp_path, "of another experiment").read() == {}


def test_finished_fits_belong_to_one_log_and_one_config(tmp_path: Path) -> None:
    (tmp_path / "interactions.parquet").write_bytes(b"one")
    before = digest(tmp_path, "{}")
    assert digest(tmp_path, "{}") == before
    assert digest(tmp_path, '{"k": 5}') != before
    (tmp_path / "interactions.parquet").write_bytes(b"two")
    assert digest(tmp_path, "{}") != before


# --- methods and configs


@pytest.mark.parametrize(("seeds", "ablation_seeds", "fits"), [(5, 3, 3), (5, None, 5), (2, 3, 2)])
def test_seeds_follow_each_other_and_ablations_may_have_fewer(
    seeds: int, ablation_seeds: int | None, fits: int
) -> None:
    config = ExperimentConfig(seed=7, seeds=seeds, ablation_seeds=ablation_seeds)
    jobs = grid(METHODS, config)
    assert Counter(job.method for job in jobs) == {"lda": seeds, "vr": seeds, "median": 1, "lda - rank": fits}
    assert {job.seed for job in jobs if job.method == "lda - rank"} == set(range(7, 7 + fits))
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)


def test_ablations_come_with_everything_or_on_request() -> None:
    def names(*arguments: Any, **options: Any) -> list[str]:
        return [method.name for method in select_methods(METHODS, *arguments, **options)]

    assert names(None, ablations=None) == [method.name for method in METHODS]
    assert names(None, ablations=False) == ["lda", "vr", "median"]
    assert names("vr, lda", ablations=None) == ["lda", "vr"]
    assert names("lda - rank", ablations=None) == ["lda - rank"]
    assert names("vr", ablations=True) == ["vr", "lda - rank"]
    for wrong in ("vr,nonsense", ""):
        with pytest.raises(BadInput, match="there are lda, vr, median, lda - rank"):
            select_methods(METHODS, wrong, ablations=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"k": 5}, "`k` of the comparison"), ({"seeds": 0}, "`seeds` of the comparison"), ([1], "as JSON")],
)
def test_a_wrong_config_is_refused_by_its_field(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        load_config(ExperimentConfig, write_json(tmp_path / "config.json", content), {})


def test_options_override_a_config_and_the_config_of_a_report_can_be_used_again(tmp_path: Path) -> None:
    report = write_json(tmp_path / "report.json", {"rows": [], "config": {"seeds": 3, "seed": 1}})
    config = load_config(ExperimentConfig, report, {"seeds": 2, "seed": None})
    assert config == ExperimentConfig(seeds=2, seed=1)


# --- results


def test_a_summary_is_undefined_where_a_seed_is() -> None:
    assert summarize_seeds([1.0, 2.0, 3.0]) == SeedSummary(2.0, 1.0, [1.0, 2.0, 3.0])
    assert summarize_seeds([1.0, None]) == SeedSummary(None, None, [1.0, None])
    assert summarize_seeds([4.0]) == SeedSummary(4.0, None, [4.0])


def test_the_json_is_read_back_with_six_digits(tmp_path: Path) -> None:
    rows = [{"method": "a", "mean": 1 / 3}, {"method": "b"}]
    report = {"command": "x", "n": [3], "surfaces": {"wt": [[1, 2]]}, "rows": rows}
    write_report_json(tmp_path / "report.json", report)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content == {**report, "rows": [{"method": "a", "mean": 0.333333}, {"method": "b"}]}


# --- a command from beginning to end

OPTIONS = ("--methods", "lda,vr l1,median", "--seeds", "2", "--windows", "1")
CONFIG = {
    "all_tabs": True,
    "loop": {"epochs": 1, "batch_size": 512, "sequence_length": 10},
    "encoder": {"width": 8, "token": 8, "heads": 2, "hidden": 16},
    "lda": {"groups": 3, "dim": 8, "anchors": {"sequences": 128, "epochs": 2, "anchors": 8}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("engine"), users=30, videos=80, exposures=1000, days=6)


def command(data: Path, out: Path, *options: str | Path) -> list[str | Path]:
    config = write_json(data.parent / "config.json", CONFIG)
    return ["compare", "watch-time", "--data", data, "--out", out, "--config", config, *OPTIONS, *options]


@pytest.mark.slow
def test_ctrl_c_ends_every_process_and_the_same_command_continues(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "report"
    arguments = [sys.executable, "-m", "training", *map(str, command(data, out, "--jobs", "2"))]
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    partial = partial_path(out)
    while not partial.exists() or not partial.read_text().endswith("}\n"):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    _, errors = process.communicate(timeout=60)
    wait_until_ended(process.pid)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "the same command continues" in errors
    assert list(out.parent.iterdir()) == [partial]
    entry = json.loads(partial.read_text().splitlines()[1])
    partial.write_text(json.dumps(entry | {"result": entry["result"] | {"parameters": 10**9}}) + "\n")
    # Two seeds of one method: their median shows the changed parameters, so the first fit was not repeated.
    assert f"wrote {out / 'report.md'}" in run_command(*command(data, out, "--jobs", "1"))
    assert read_rows(out)[entry["method"]]["parameters"] > 10**8
    assert list(out.parent.iterdir()) == [out]
    before = (out / "report.json").read_bytes()
    assert "exists already" in refusal(*command(data, out))
    assert (out / "report.json").read_bytes() == before


@pytest.mark.slow
def test_a_report_is_rendered_again_from_its_json_alone(data: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "copy.json", tmp_path / "out"
    run_command(*command(data, out, "--json", copy, "--jobs", "1"), "--methods", "vr l1,median")
    assert copy.read_bytes() == (out / "report.json").read_bytes()
    text = (out / "report.md").read_text()
    for path in out.iterdir():
        if path.name != "report.json":
            path.unlink()
    run_command("render", out)
    assert (out / "report.md").read_text() == text
    assert (out / "bars.png").stat().st_size > 2_000


def test_wrong_input_is_refused_before_anything_is_fitted(data: Path, tmp_path: Path) -> None:
    assert "no method 'nonsense'" in refusal(*command(data, tmp_path / "out", "--methods", "nonsense"))
    assert "days" in refusal(*command(data, tmp_path / "out", "--test-days", "30"))
    assert not list(tmp_path.iterdir())
