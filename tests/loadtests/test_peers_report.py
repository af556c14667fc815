"""The table of the comparison with other servers, and what its figures are made of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loadtests.peers.report import BLOCK, placed, summary, table
from loadtests.peers.servers import OURS
from tests.conftest import ROOT


def compared(ours: list[float], one: list[float], other: list[float]) -> dict[str, Any]:
    """What a comparison returns whose every figure is the server's."""
    servers = {
        name: dict.fromkeys(("rate", "cpu_ms", "p50_ms", "p99_ms"), of) | {"memory_mib": of[0]}
        for name, of in ((OURS, ours), ("bentoml", one), ("litserve", other))
    }
    return {"asked_rate": 50.0, "servers": servers}


def report() -> dict[str, Any]:
    return {
        "command": "c",
        "commit": "abc",
        "date": "2026-11-21",
        "machine": "m",
        "bundle": "v",
        "versions": {"bentoml": "1.0", "litserve": "2.0"},
        "request": {"candidates": 200, "events": 50},
        "connections": 8,
        "seconds": 3.0,
        "rounds": 3,
        "runs": [summary(1, compared([300.0, 200.0, 400.0], [100.0, 50.0, 100.0], [100.0, 100.0, 200.0]))],
    }


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    found = summary(1, compared([300.0, 200.0, 900.0], [100.0, 50.0, 100.0], [100.0, 100.0, 200.0]))
    assert found["ratios"]["bentoml"]["rate"] == 4.0
    assert found["ratios"]["litserve"]["rate"] == 3.0
    assert found["servers"][OURS]["rate"] == 300.0


def test_the_better_of_the_two_is_the_one_we_are_less_ahead_of() -> None:
    found = summary(1, compared([300.0], [100.0], [150.0]))
    assert found["better"] == {"name": "litserve", "ratio": 2.0}
    found = summary(1, compared([300.0], [200.0], [150.0]))
    assert found["better"] == {"name": "bentoml", "ratio": 1.5}


def test_the_table_has_a_row_for_each_server_and_for_each_ratio() -> None:
    written = table(report())
    assert "| reelrank | 300 | 300.00 | 300.00 | 300.00 | 300 |" in written
    assert "| bentoml 1.0 | 100 | 100.00 |" in written
    assert "| reelrank / litserve | 2.00x |" in written
    assert "**2.00 times** as many requests as the better of the two, litserve; " in written
    assert "for a second of CPU 0.25 times as many, against bentoml." in written
    widths = {line.count("|") for line in written.splitlines() if line.startswith("|")}
    assert widths == {7}


def test_what_could_not_be_measured_is_a_dash_and_no_ratio() -> None:
    figures = compared([300.0], [100.0], [150.0])
    for of in figures["servers"].values():
        of["memory_mib"] = None
    written = table(report() | {"runs": [summary(1, figures)]})
    assert written.count("| - |") == 5


def test_the_table_goes_between_its_marks_and_nothing_else_changes() -> None:
    text = "before\n<!-- peers -->\nold\n<!-- /peers -->\nafter\n"
    new = placed(text, r"\1 new" + "\n")
    assert new == "before\n<!-- peers -->\n\\1 new\n<!-- /peers -->\nafter\n"
    with pytest.raises(ValueError, match="<!-- peers -->"):
        placed("no marks here", "new\n")


def test_the_figures_are_those_of_the_committed_report() -> None:
    """`make peers` writes both; nobody types them."""
    found = BLOCK.search((ROOT / "loadtests" / "README.md").read_text())
    assert found is not None
    assert found[0] == table(json.loads((ROOT / "loadtests" / "peers.json").read_text()))
