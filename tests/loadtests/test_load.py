"""The load command in small, its capacity search, budgets, traffic and recordings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from loadtests.load.__main__ import MISSED, app
from loadtests.load.budgets import Budget, read_budgets
from loadtests.load.capacity_search import FIRST, find_capacity
from loadtests.load.pictures import LATENCY, OVER_TIME, draw
from loadtests.load.scenarios import DELAYED_STORE, NAMES, OVERLOAD
from loadtests.report import render_load
from loadtests.traffic import HOT_ZIPF, ZIPF, Traffic
from models.errors import BadInput

PNG = b"\x89PNG\r\n\x1a\n"
SMOKE = ("rerank 200", "reload and rollback", OVERLOAD, "label 100", "label NDJSON", DELAYED_STORE)


def load(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def smoke(version: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The table and the report of a scenario of each kind."""
    file = tmp_path_factory.mktemp("load") / "load.json"
    only = [word for name in SMOKE for word in ("--only", name)]
    done = load("--smoke", "--bundle", version, "--json", file, *only)
    assert done.exit_code == 0, done.stderr  # whatever budgets a busy machine has missed
    return done.stdout, json.loads(file.read_text())


@pytest.mark.slow
def test_every_request_of_a_scenario_has_a_status(smoke: tuple[str, dict[str, Any]]) -> None:
    figures = smoke[1]["figures"]
    assert list(figures) == list(SMOKE)
    for name, row in figures.items():
        half = row["half"]
        assert row["most"] > 0, name
        # A busy machine is late or refuses; it is not wrong, and drops no request.
        assert set(half["statuses"]) <= {"200", "429", "503"}, name
        assert sum(half["statuses"].values()) == half["requests"] >= 1, name
        assert half["statuses"].get("200", 0) == 0 or half["curve"][-1][1] == half["ms"]["max"], name
    assert figures["rerank 200"]["bare_call_ms"] > 0
    assert figures["label NDJSON"]["unfinished"] == 0
    assert figures["reload and rollback"]["swaps_failed"] == []
    good = sum(second["good"] for second in figures[OVERLOAD]["by_second"])
    assert good == figures[OVERLOAD]["twice"]["statuses"].get("200", 0)


@pytest.mark.slow
def test_the_store_is_really_delayed(smoke: tuple[str, dict[str, Any]]) -> None:
    """A slate reads it once: 5 ms there and 5 ms back."""
    half = smoke[1]["figures"][DELAYED_STORE]["half"]
    assert half["ms"] == {} or half["ms"]["p50"] >= 10.0


@pytest.mark.slow
def test_the_table_has_every_scenario_and_its_budgets(smoke: tuple[str, dict[str, Any]]) -> None:
    table, report = smoke
    assert table == render_load(report)
    assert all(f"| {name} |" in table for name in SMOKE if name != OVERLOAD)
    assert "times the maximum throughput" in table
    assert 0 <= report["others_share"] <= 1
    assert len(report["budgets"]) == sum(budget.scenario in SMOKE for budget in read_budgets())
    for verdict in report["budgets"]:
        row = next(line for line in table.splitlines() if line.startswith(f"| {verdict['title']} |"))
        assert ("missed" in row) != verdict["met"]


@pytest.mark.slow
def test_there_are_two_pictures(smoke: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    pictures = draw(smoke[1]["figures"], tmp_path)
    assert [path.name for path in pictures] == [LATENCY, OVER_TIME]
    assert all(path.read_bytes().startswith(PNG) for path in pictures)


@pytest.mark.slow
def test_a_recording_is_replayed_and_strict_fails_on_a_missed_budget(version: Path, tmp_path: Path) -> None:
    traffic = Traffic(1, 3, [f"v{i}" for i in range(100)])
    lines = [json.dumps({"path": "/rerank", "body": traffic.slate(f"u{i}", 5)}) for i in range(4)]
    trace = tmp_path / "trace.ndjson"
    trace.write_text("\n".join([*lines, "", ""]))
    done = load("--smoke", "--strict", "--only", "label 100", "--bundle", version, "--trace", trace)
    assert done.exit_code == (MISSED if "missed" in done.stdout else 0), done.stderr
    assert "| ≥ 35,000 |" in done.stdout
    (row,) = re.findall(r"^\| recorded \| .*$", done.stdout, re.MULTILINE)
    assert "4 requests" in row


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no request"),
        ("{", "trace:1 is not"),
        ('\n{"path": "rerank", "body": {}}', "trace:2 is not"),
        ('{"path": "/rerank"}', "missing required field `body`"),
        ('{"path": "/a b", "body": 1}', "matching regex"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_recording_is_an_error_in_one_line(text: str | None, message: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    if text is not None:
        trace.write_text(text)
    done = load("--smoke", "--trace", trace)
    assert done.exit_code == 2
    assert message in done.stderr


def test_an_unknown_scenario_is_an_error_that_lists_the_others() -> None:
    done = load("--only", "rerank 3")
    assert done.exit_code == 2
    assert "no scenario 'rerank 3'" in done.stderr
    assert OVERLOAD in done.stderr


# --- the capacity search


def test_the_capacity_of_a_quiet_host_is_approached_from_below() -> None:
    rates: list[float] = []

    def holds(rate: float) -> bool:
        rates.append(rate)
        return rate <= 612.0

    capacity = find_capacity(holds, 1000.0, 12)
    assert capacity is not None
    assert 0.85 * 612 <= capacity <= 612
    assert rates[0] == 1000 * FIRST
    assert rates.count(capacity) >= 2


def test_one_failed_trial_is_repeated() -> None:
    outcomes = iter([True, False, True, True, False, True])
    capacity = find_capacity(lambda rate: rate <= 700 and next(outcomes, True), 1000.0, 20)
    assert capacity is not None
    assert capacity >= 0.8 * 700


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 25))
def test_any_noise_ends_in_the_given_trials_with_a_rate_that_held(outcomes: list[bool], trials: int) -> None:
    good: list[float] = []
    remaining, count = iter(outcomes), 0

    def holds(rate: float) -> bool:
        nonlocal count
        count += 1
        if next(remaining, False):
            good.append(rate)
            return True
        return False

    capacity = find_capacity(holds, 1000.0, trials)
    assert count <= trials
    assert (capacity is None) == (not good)
    assert capacity is None or capacity <= max(good)


@pytest.mark.parametrize(("holds", "capacity"), [(lambda rate: False, None), (lambda rate: True, 500.0)])
def test_the_ends_of_the_scale(holds: Callable[[float], bool], capacity: float | None) -> None:
    assert find_capacity(holds, 500.0, 12) == capacity


# --- budgets


def test_each_budget_names_a_scenario() -> None:
    budgets = read_budgets()
    assert len(budgets) >= 10
    assert {budget.scenario for budget in budgets} <= set(NAMES)


@pytest.mark.parametrize(
    ("bounds", "value", "is_met", "missed_by"),
    [
        ({"at_most": 2.0}, 2.0, True, ""),
        ({"at_most": 2.0}, 2.5, False, "25%"),
        ({"at_most": 2.0}, 9.0, False, "4.5x"),
        ({"at_least": 0.9}, 0.9, True, ""),
        ({"at_least": 0.9}, 0.45, False, "2.0x"),
        ({"at_least": 100.0}, 80.0, False, "25%"),
        ({"at_most": 0.0}, 0.0, True, ""),
        ({"at_most": 0.0}, 3.0, False, "+3"),
        ({"at_least": 5.0}, 0.0, False, "-5"),
        ({"at_most": 2.0}, None, False, "no figure"),
    ],
)
def test_a_budget_is_met_or_missed_by_a_distance(
    bounds: dict[str, float], value: float | None, is_met: bool, missed_by: str
) -> None:
    verdict = Budget("title", "scenario", "half.ms", **bounds).verdict({"half": {"ms": value}})
    assert (verdict["met"], verdict["missed_by"], verdict["found"]) == (is_met, missed_by, value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\ntitle='w'\nscenario='s'\nfigure='f'\n", "needs one of"),
        ("[a]\ntitle='w'\nscenario='s'\nfigure='f'\nat_most=1\nat_least=1\n", "needs one of"),
        ("[a]\ntitle='w'\nat_most=1\n", r"\[a\]"),
        ("[a]\ntitle='w'\nscenario='s'\nfigure='f'\nat_mots=1\n", "at_mots"),
        ("[a", "cannot be read"),
    ],
)
def test_a_faulty_budget_is_an_error_with_its_name(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_budgets(file)


# --- traffic


def make_traffic() -> Traffic:
    return Traffic(3, 200, [f"v{i}" for i in range(300)])


def test_the_same_seed_sends_the_same_bytes() -> None:
    assert make_traffic().slates(5, 20) == make_traffic().slates(5, 20)
    assert make_traffic().streams(2, 30) == make_traffic().streams(2, 30)


def test_no_event_repeats() -> None:
    traffic = make_traffic()
    sent = b"".join([*traffic.histories(3), *traffic.feedback(50, 7), *traffic.streams(4, 25)])
    ids = [part.partition(b'"')[0] for part in sent.split(b'"event_id":"')[1:]]
    assert len(ids) == 200 * 3 + 50 * 7 + 4 * 25 == len(set(ids))


@pytest.mark.parametrize("zipf", [ZIPF, HOT_ZIPF])
def test_users_come_by_activity(zipf: float) -> None:
    bodies = make_traffic().feedback(4000, zipf=zipf)
    first = sum(b'"user_id":"u0"' in body for body in bodies) / len(bodies)
    assert first == pytest.approx(make_traffic().first_user_share(zipf), abs=0.04)
    assert make_traffic().first_user_share(HOT_ZIPF) > 1.5 * make_traffic().first_user_share(ZIPF)


def test_a_mix_has_its_share_of_labels() -> None:
    mixed = make_traffic().mixed([b"slate"] * 9000, [b"label"] * 2000, share=0.1)
    assert mixed.count(b"slate") == 9000
    assert mixed.count(b"label") / len(mixed) == pytest.approx(0.1, abs=0.01)
