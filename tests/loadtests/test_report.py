"""The committed tables are those of the committed reports, and the reports say that nothing was lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtests.load.scenarios import NAMES
from loadtests.report import MAY_LOSE, RENDERERS, app, markdown_table, replace_block
from models.errors import BadInput
from tests.conftest import ROOT

FOLDER = ROOT / "loadtests"
README = (FOLDER / "README.md").read_text()


def read_report(name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return report


@pytest.mark.parametrize("name", sorted(set(RENDERERS) - {"deployment"}))
def test_the_tables_are_those_of_the_committed_reports(name: str) -> None:
    block = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.DOTALL)
    assert block is not None
    assert block[1] == RENDERERS[name](read_report(name))


def test_the_load_is_of_every_scenario_and_its_pictures_are_shown() -> None:
    assert list(read_report("load")["figures"]) == list(NAMES)
    for picture in ("latency.png", "overload.png"):
        assert (FOLDER / "pictures" / picture).exists()
        assert f"](pictures/{picture})" in README


def test_nothing_was_lost_and_nothing_broke() -> None:
    rows = read_report("faults")["rows"]
    assert len(rows) >= 20
    for row in rows:
        tolerated = row["notes"]["events_per_s"] if row["name"] in MAY_LOSE else 0
        assert row["events"]["losses"] <= tolerated, row["name"]
        assert row["events"]["duplicates"] == 0, row["name"]
        assert "500" not in row["answers"], row["name"]
    for run in read_report("consume")["figures"].values():
        assert (run["lost"], run["doubled"], run["dead"]) == (0, 0, 0)
    _, *clusters = read_report("spark")["figures"].values()
    assert all(run["equal"] and run["second_run_writes_nothing"] for run in clusters)
    fuzz = read_report("fuzz")
    assert fuzz["cases"] >= 50_000
    assert not any(fuzz[part]["statuses"].get("500") for part in ("from_the_description", "broken"))


def test_a_block_goes_between_its_marks_and_nothing_else_changes() -> None:
    page = "before\n<!-- peers -->\nold\n<!-- /peers -->\nafter\n"
    expected = "before\n<!-- peers -->\n\\1 new\n<!-- /peers -->\nafter\n"
    assert replace_block(page, "peers", r"\1 new" + "\n") == expected
    with pytest.raises(BadInput, match="<!-- peers -->"):
        replace_block("no marks here", "peers", "new\n")


def test_a_table_has_as_many_cells_in_every_row() -> None:
    table = markdown_table(("a", ""), [(1, "x"), (2, "")])
    assert table == "| a | |\n|---|---|\n| 1 | x |\n| 2 | |"


def test_the_command_writes_the_blocks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- soak -->\n<!-- /soak -->\n")
    done = CliRunner().invoke(app, [str(FOLDER / "soak.json"), "--readme", str(page)])
    assert done.exit_code == 0, done.stderr
    assert RENDERERS["soak"](read_report("soak")) in page.read_text()
    printed = CliRunner().invoke(app, [str(FOLDER / "bench.json")])
    assert printed.stdout == RENDERERS["bench"](read_report("bench"))
    unknown = CliRunner().invoke(app, [str(tmp_path / "unknown.json")])
    assert (unknown.exit_code, "is no report" in unknown.stderr) == (2, True)
