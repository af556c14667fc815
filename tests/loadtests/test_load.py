"""The load in small: every scenario runs, and what it prints says what it found."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from loadtests.load.__main__ import MISSED, main
from loadtests.load.pictures import LATENCY, OVER_TIME, draw
from loadtests.load.plays import DELAYED, NAMES, OVERLOAD, START
from loadtests.load.table import load_table
from loadtests.load.traffic import Traffic
from loadtests.program import Program
from tests.conftest import ROOT
from tests.service import tiny_bundle

PNG = b"\x89PNG\r\n\x1a\n"


app = typer.Typer()
app.command()(main)


def load(*arguments: str | Path) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write(tmp_path_factory.mktemp("tiny") / tiny_bundle.FIRST)


@pytest.fixture(scope="module")
def smoke(version: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The table and the report of every scenario."""
    file = tmp_path_factory.mktemp("load") / "load.json"
    command = [
        sys.executable,
        "-m",
        "loadtests.load",
        "--smoke",
        "--bundle",
        str(version),
        "--json",
        str(file),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr  # whatever budgets a busy machine has missed
    report: dict[str, Any] = json.loads(file.read_text())
    return done.stdout, report


def test_every_scenario_runs_and_what_it_asks_is_answered(smoke: tuple[str, dict[str, Any]]) -> None:
    _, report = smoke
    found = report["figures"]
    assert list(found) == list(NAMES)
    for name, figures in found.items():
        if name == START:
            assert figures["ready_s"] > 0
            continue
        half = figures["half"]
        assert figures["most"] > 0, name
        # A busy machine is late or refuses; it is not wrong, and drops nobody.
        assert set(half["statuses"]) <= {"200", "429", "503"}, name
        assert sum(half["statuses"].values()) == half["requests"] >= 1, name
        assert half["statuses"].get("200", 0) == 0 or half["curve"][-1][1] == half["ms"]["max"], name
    assert found["rerank 200"]["bare_call_ms"] > 0
    assert found["label NDJSON"]["unfinished"] == 0
    assert found["reload and rollback"]["swaps_failed"] == []
    assert sum(row["good"] for row in found[OVERLOAD]["by_second"]) == found[OVERLOAD]["twice"][
        "statuses"
    ].get("200", 0)


def test_the_store_was_really_late(smoke: tuple[str, dict[str, Any]]) -> None:
    """A slate asks it once, and an answer cannot come before its reply: 5 ms there and 5 ms back."""
    _, report = smoke
    half = report["figures"][DELAYED]["half"]
    assert half["ms"] == {} or half["ms"]["p50"] >= 10.0


def test_the_table_has_every_scenario_and_every_budget(smoke: tuple[str, dict[str, Any]]) -> None:
    table, report = smoke
    assert table == load_table(report)
    for name in NAMES:
        assert name in (START, OVERLOAD) or f"| {name} |" in table
    assert "times the most" in table
    assert "after the start" in table
    assert 0 <= report["others_share"] <= 1
    assert 0 <= report["stalls"]["share"] < 1
    assert len(report["budgets"]) == (ROOT / "loadtests" / "budgets.toml").read_text().count("\n[")
    for verdict in report["budgets"]:
        row = next(line for line in table.splitlines() if line.startswith(f"| {verdict['what']} |"))
        assert ("missed" in row) != verdict["met"]


def test_there_are_two_pictures_of_it(smoke: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    _, report = smoke
    drawn = draw(report["figures"], tmp_path)
    assert [path.name for path in drawn] == [LATENCY, OVER_TIME]
    for path in drawn:
        assert path.read_bytes().startswith(PNG)


def test_a_recording_is_played_and_a_missed_budget_is_an_error_where_that_is_asked_for(
    version: Path, tmp_path: Path
) -> None:
    traffic = Traffic(1, 3, [f"v{i}" for i in range(100)])
    lines = [json.dumps({"path": "/rerank", "body": traffic.slate(f"u{i}", 5)}) for i in range(4)]
    trace = tmp_path / "trace.ndjson"
    trace.write_text("\n".join([*lines, "", ""]))
    asked = ("--smoke", "--strict", "--only", "label 100", "--bundle", version, "--trace", trace)
    done = load(*asked)
    assert done.exit_code == (MISSED if "missed" in done.stdout else 0), done.stderr
    assert "| ≥ 25,000 |" in done.stdout
    (row,) = re.findall(r"^\| recorded \| .*$", done.stdout, re.MULTILINE)
    assert "4 requests" in row


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no request"),
        ("{", "trace:1 is not JSON"),
        ('\n{"path": "rerank", "body": {}}', 'trace:2 must be {"path": "/rerank", "body": {…}}'),
        ('{"path": "/rerank"}', "trace:1 must be"),
        ('{"path": "/a b", "body": 1}', "percent-encoded"),
        (None, "cannot be read"),
    ],
)
def test_a_recording_that_is_none_is_told_in_a_line(text: str | None, said: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    if text is not None:
        trace.write_text(text)
    done = load("--trace", trace)
    assert done.exit_code == 2
    assert said in done.stderr


def test_an_unknown_scenario_is_told_with_those_there_are() -> None:
    done = load("--only", "rerank 3")
    assert done.exit_code == 2
    assert "no scenario 'rerank 3'" in done.stderr
    assert OVERLOAD in done.stderr


@pytest.mark.skipif(
    importlib.util.find_spec("locust") is None, reason="locust is not installed (pip install locust)"
)
def test_the_locustfile_runs(version: Path, tmp_path: Path) -> None:
    with Program(version, tmp_path) as program:
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--host", program.url]
        asked = ("--headless", "-u", "4", "-r", "4", "-t", "8s", "--json")
        done = subprocess.run([*command, *asked], cwd=ROOT, capture_output=True, text=True, timeout=60)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    found = rows["/rerank"]
    assert found["num_requests"] > found["num_failures"], done.stderr  # a busy machine refuses some
    assert rows.keys() <= {"/rerank", "/label"}
