"""What is made of runs: percentiles, seconds, budgets, and a capacity that noise cannot fool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.load.budgets import Budget, read_budgets, verdict
from loadtests.load.connections import GONE
from loadtests.load.figures import by_second, curve, percentiles_ms
from loadtests.load.open_loop import Run
from loadtests.load.plays import NAMES
from loadtests.load.search import FIRST, capacity
from loadtests.load.stalls import stalls, watch
from loadtests.load.traffic import HOT, ZIPF, Traffic
from loadtests.machine import Others
from models.errors import BadInput

LATENCIES = st.lists(st.floats(1e-5, 10.0), min_size=1, max_size=400)


def made(due_s: list[float], latency_s: list[float], status: list[int]) -> Run:
    nothing = np.zeros(len(due_s))
    return Run(np.array(due_s), np.array(latency_s), nothing, nothing, np.array(status))


# --- percentiles


@settings(deadline=None)
@given(LATENCIES)
def test_a_percentile_is_a_latency_that_so_many_did_not_exceed(latency_s: list[float]) -> None:
    found = percentiles_ms(np.array(latency_s))
    for name, q in (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9), ("max", 100)):
        assert found[name] == pytest.approx(np.percentile(latency_s, q, method="higher") * 1e3, abs=6e-4)
        assert np.mean(np.array(latency_s) * 1e3 <= found[name] + 6e-4) >= q / 100 - 1e-9


def test_a_curve_rises_and_tells_no_percentile_that_so_few_samples_do_not_have() -> None:
    latency_s = np.random.default_rng(0).exponential(0.01, 500).tolist()
    run = made([i / 100 for i in range(500)], latency_s, [200] * 500)
    points = curve(run)
    assert [q for q, _ in points] == [0.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 100.0]
    assert [ms for _, ms in points] == sorted(ms for _, ms in points)
    assert points[-1][1] == pytest.approx(max(latency_s) * 1e3, abs=1e-3)


def test_seconds_are_of_when_a_request_was_due() -> None:
    run = made([0.1, 0.9, 1.5, 3.2], [5.0, 0.001, 0.002, 0.003], [200, 429, GONE, 200])
    assert by_second(run) == [
        {"second": 0, "good": 1, "refused": 1, "wrong": 0, "p99_ms": 5000.0},
        {"second": 1, "good": 0, "refused": 0, "wrong": 1, "p99_ms": None},
        {"second": 2, "good": 0, "refused": 0, "wrong": 0, "p99_ms": None},
        {"second": 3, "good": 1, "refused": 0, "wrong": 0, "p99_ms": 3.0},
    ]


# --- the capacity


def test_the_capacity_of_a_quiet_machine_is_found_from_below() -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= 612.0

    found = capacity(holds, 1000.0, 12)
    assert found is not None
    assert 0.85 * 612 <= found <= 612
    assert tried[0] == 1000 * FIRST
    assert tried.count(found) >= 2


def test_one_failure_is_not_believed() -> None:
    outcomes = iter([True, False, True, True, False, True])

    def holds(rate: float) -> bool:
        return rate <= 700 and next(outcomes, True)

    found = capacity(holds, 1000.0, 20)
    assert found is not None
    assert found >= 0.8 * 700


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 25))
def test_any_noise_ends_in_the_given_trials_and_names_no_rate_that_never_held(
    outcomes: list[bool], trials: int
) -> None:
    held: list[float] = []
    left = iter(outcomes)
    count = 0

    def holds(rate: float) -> bool:
        nonlocal count
        count += 1
        if next(left, False):
            held.append(rate)
            return True
        return False

    found = capacity(holds, 1000.0, trials)
    assert count <= trials
    assert (found is None) == (not held)
    if found is not None:
        assert found <= max(held)


@pytest.mark.parametrize(("holds", "found"), [(lambda rate: False, None), (lambda rate: True, 500.0)])
def test_the_ends_of_the_scale(holds: Callable[[float], bool], found: float | None) -> None:
    assert capacity(holds, 500.0, 12) == found


# --- budgets


def test_each_budget_names_a_scenario_that_is_played() -> None:
    budgets = read_budgets()
    assert len(budgets) >= 10
    assert {budget.scenario for budget in budgets} <= set(NAMES)


@pytest.mark.parametrize(
    ("bounds", "value", "met", "missed_by"),
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
def test_a_budget_is_met_or_missed_by_so_much(
    bounds: dict[str, float], value: float | None, met: bool, missed_by: str
) -> None:
    found = verdict(Budget("what", "scenario", "half.ms", **bounds), {"half": {"ms": value}})
    assert (found.met, found.missed_by, found.found) == (met, missed_by, value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\nwhat='w'\nscenario='s'\nfigure='f'\n", "needs one of"),
        ("[a]\nwhat='w'\nscenario='s'\nfigure='f'\nat_most=1\nat_least=1\n", "needs one of"),
        ("[a]\nwhat='w'\nat_most=1\n", r"\[a\]"),
        ("[a]\nwhat='w'\nscenario='s'\nfigure='f'\nat_mots=1\n", "at_mots"),
        ("[a", "cannot be read"),
    ],
)
def test_a_faulty_budget_is_told_by_its_name(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=said):
        read_budgets(file)


# --- traffic


def traffic() -> Traffic:
    return Traffic(3, 200, [f"v{i}" for i in range(300)])


def test_the_same_seed_sends_the_same_bytes() -> None:
    assert traffic().slates(5, 20) == traffic().slates(5, 20)
    assert traffic().streams(2, 30) == traffic().streams(2, 30)


def test_no_event_is_made_twice() -> None:
    made_of = traffic()
    sent = b"".join([*made_of.histories(3), *made_of.feedback(50, 7), *made_of.streams(4, 25)])
    ids = [part.partition(b'"')[0] for part in sent.split(b'"event_id":"')[1:]]
    assert len(ids) == 200 * 3 + 50 * 7 + 4 * 25 == len(set(ids))


@pytest.mark.parametrize("zipf", [ZIPF, HOT])
def test_users_come_by_zeal(zipf: float) -> None:
    bodies = traffic().feedback(4000, zipf=zipf)
    first = sum(b'"user_id":"u0"' in body for body in bodies) / len(bodies)
    assert first == pytest.approx(traffic().first_users_share(zipf), abs=0.04)
    assert traffic().first_users_share(HOT) > 1.5 * traffic().first_users_share(ZIPF)


def test_a_mix_has_the_share_it_was_asked_for() -> None:
    slates, labels = [b"slate"] * 9000, [b"label"] * 2000
    mixed = traffic().mixed(slates, labels, share=0.1)
    assert mixed.count(b"slate") == 9000
    assert mixed.count(b"label") / len(mixed) == pytest.approx(0.1, abs=0.01)


# --- the machine


def test_what_we_do_ourselves_is_not_counted_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, own, now = iter([100.0, 106.0]), iter([10.0, 14.0]), iter([0.0, 4.0])
    monkeypatch.setattr("loadtests.machine._busy_s", lambda: next(busy))
    monkeypatch.setattr("loadtests.machine._own_s", lambda: next(own))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    others = Others(clock=lambda: next(now))
    assert others.share() == 0.25  # 6 s of work, 4 of them ours, on 2 cores for 4 s


# --- the machine


def test_a_core_that_stands_still_is_seen_to() -> None:
    times = iter([0.0, 1e-6, 0.1, 0.1 + 2e-4, 0.5, 1.0])  # what is shorter than half a millisecond is none
    found = watch(1.0, clock=lambda: next(times))
    assert found["share"] == pytest.approx(1.0 - 1e-6 - 2e-4)
    assert found["longest_ms"] == 500.0
    assert 0 <= stalls(0.05)["share"] < 1
