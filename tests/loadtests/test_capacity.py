"""The arithmetic of a plan, by hand; and the committed page is the committed reports'."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from loadtests.capacity.__main__ import main
from loadtests.capacity.figures import Figure, Measured, read
from loadtests.capacity.page import page
from loadtests.capacity.plan import GIB, Assumed, plan
from models.errors import BadInput
from tests.conftest import ROOT

REPORTS = ROOT / "loadtests"


def figure(value: float) -> Figure:
    return Figure(value, "x.json")


MEASURED = Measured(
    user_bytes={50: figure(1500), 100: figure(3000)},
    claim_bytes=figure(20),
    claim_ms=figure(0.1),
    claim_hashes=100,
    left_bytes=figure(50),
    read_ms=figure(0.1),
    write_ms=figure(0.5),
    append_bytes=figure(3000),
    packed_bytes={50: figure(1400), 100: figure(2800)},
    worker_bytes=figure(GIB / 8),
    video_bytes=figure(GIB / 1e7),
    slate_ms=figure(5),
    event_ms=figure(0.25),
    slates_per_s=None,
    stamps=("x.json: …",),
)

# 86.4 million users, each ten slates and twenty events a day: 10,000 slates and 20,000 events a second.
ASSUMED = Assumed(
    daily_users=86.4e6,
    requests_per_user=10,
    events_per_user=20,
    peak_factor=2,
    known_share=2,
    history=100,
    window_days=2,
    videos=1e7,
    busy=0.5,
    worker_cores=8,
    shard_gib=10,
    shard_fill=0.5,
    replicas=1,
    spare=0.25,
    slate_in_bytes=10_000,
    slate_out_bytes=15_000,
    event_bytes=250,
    disk_mb_per_s=100,
    network_gbit_per_s=10,
)


def test_the_peak_is_the_days_mean_times_a_factor() -> None:
    found = plan(MEASURED, ASSUMED)
    assert found.slates_per_s == pytest.approx(20_000)
    assert found.events_per_s == pytest.approx(40_000)


def test_workers_by_hand() -> None:
    found = plan(MEASURED, ASSUMED)
    assert found.worker_slates_per_s == pytest.approx(100)  # half of 1000 ms / 5 ms
    assert found.slate_workers == 200
    assert found.event_workers == 20  # 40,000 x 0.25 ms = 10 s a second, at half
    assert found.worker_machines == 35  # 220 / 8 x 1.25 = 34.4
    assert found.worker_machine_gib == pytest.approx(2)  # 8 x 1/8 + the catalogue's 1


def test_what_a_worker_was_seen_to_carry_in_time_counts_if_it_is_less() -> None:
    assert plan(replace(MEASURED, slates_per_s=figure(80)), ASSUMED).slate_workers == 250
    assert plan(replace(MEASURED, slates_per_s=figure(180)), ASSUMED).slate_workers == 200


def test_shards_by_hand() -> None:
    found = plan(MEASURED, ASSUMED)
    # 172.8 million users x 3000 bytes, 3.456 thousand million events x (20 + 50) bytes
    assert found.state_bytes == pytest.approx(172.8e6 * 3000 + 3.456e9 * 70)
    assert found.shards_by_memory == 142  # 760.3e9 / (5 GiB = 5.3687e9) = 141.6
    assert found.shards_by_processor == 44  # (20,000 x 0.1 + 40,000 x 0.5) ms = 22 s a second, at half
    assert found.shards_by_disk == 3  # 120 MB/s / 50 MB/s = 2.4
    assert found.shards_by_network == 1  # 0.448 + 0.96 Gbit/s of 5
    assert (found.shards, found.decides) == (142, "memory")
    assert (found.store_processes, found.store_gib) == (284, 2840)
    assert found.append_per_day == pytest.approx(86.4e6 * 20 * 3000)


def test_network_by_hand() -> None:
    found = plan(MEASURED, ASSUMED)
    assert found.client_bits == pytest.approx(8 * (20_000 * 25_000 + 40_000 * 250))
    assert found.store_bits == pytest.approx(8 * 20_000 * 2800)
    assert found.replica_bits == pytest.approx(8 * 40_000 * 3000)


def test_a_shorter_history_costs_less_and_loses_nothing_from_its_sequences() -> None:
    found = plan(MEASURED, replace(ASSUMED, history=50))
    assert found.left_bytes == 0
    assert found.state_bytes == pytest.approx(172.8e6 * 1500 + 3.456e9 * 20)


def test_a_limit_is_the_audience_at_which_one_of_each_is_enough() -> None:
    for limit in plan(MEASURED, ASSUMED).limits:
        alone = plan(MEASURED, replace(ASSUMED, daily_users=limit.daily_users * 0.999))
        more = plan(MEASURED, replace(ASSUMED, daily_users=limit.daily_users * 1.001))
        if limit.of == "shard":
            count = {
                "memory": (alone.shards_by_memory, more.shards_by_memory),
                "processor (one thread)": (alone.shards_by_processor, more.shards_by_processor),
                "disk (appending)": (alone.shards_by_disk, more.shards_by_disk),
                "network": (alone.shards_by_network, more.shards_by_network),
            }[limit.name]
            assert count == (1, 2), limit.name


@pytest.mark.parametrize(
    ("dearer", "first", "decides"),
    [
        ({}, "memory", "memory"),
        ({"write_ms": figure(5)}, "processor (one thread)", "processor"),
        ({"append_bytes": figure(300_000)}, "disk (appending)", "disk"),
        ({"slate_ms": figure(500)}, "processor", "memory"),
    ],
)
def test_what_breaks_first_goes_by_the_figures(dearer: dict[str, Figure], first: str, decides: str) -> None:
    found = plan(replace(MEASURED, **dearer), ASSUMED)  # type: ignore[arg-type]  # members by name
    assert (found.limits[0].name, found.decides) == (first, decides)
    assert f"What breaks first is the {first} of a" in page("command", MEASURED, ASSUMED, found)


def test_what_no_number_of_shards_lifts_by_hand() -> None:
    found = plan(MEASURED, ASSUMED)
    memory, processor = found.walls
    assert memory.daily_users == pytest.approx(5 * GIB / (40 * 20 / 100))  # 40 ids a user, 20 bytes
    # 100 threads, each half busy, at 0.1 ms: 500,000 events a second, of 20 x 2 a user and day
    assert processor.daily_users == pytest.approx(500_000 * 86_400 / 40)
    assert found.hashes_needed == 13  # 86.4e6 x 8 bytes / 5 GiB = 12.9 %
    text = page("command", MEASURED, ASSUMED, found)
    assert "For 86.4 million there must be 13" in text
    assert "however many" not in text
    beyond = replace(ASSUMED, daily_users=900e6)
    text = page("command", MEASURED, beyond, plan(MEASURED, beyond))
    assert "What breaks first is the memory of one hash of event ids, at 671,088,640 daily users" in text


def test_a_bigger_audience_never_takes_fewer_of_anything() -> None:
    before = plan(MEASURED, replace(ASSUMED, daily_users=1))
    for users in (1e3, 1e6, 3e8, 2e9):
        after = plan(MEASURED, replace(ASSUMED, daily_users=users))
        for name in ("slate_workers", "event_workers", "worker_machines", "shards", "store_gib"):
            assert getattr(after, name) >= getattr(before, name), (users, name)
        before = after


def run(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, list(arguments))


def test_every_assumption_is_an_option_with_its_default() -> None:
    text = run("--help").output
    for field in fields(Assumed):
        assert f"--{field.name.replace('_', '-')}" in text


def test_the_committed_page_is_what_the_reports_make_of_it() -> None:
    """`python -m loadtests.capacity` writes it again when a report has changed."""
    measured = read(REPORTS)
    text = page("python -m loadtests.capacity", measured, Assumed(), plan(measured, Assumed()))
    assert (REPORTS / "CAPACITY.md").read_text() == text


def test_a_page_for_another_audience_says_how_it_was_made(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    done = run("--daily-users", "1e6", "--replicas", "2", "--out", str(out))
    assert done.exit_code == 0
    assert out.read_text() == done.stdout
    assert "`python -m loadtests.capacity --daily-users 1e+06 --replicas 2`" in done.stdout
    assert "Capacity for 1 million daily users" in done.stdout
    shown = json.loads(run("--daily-users", "1e6", "--replicas", "2", "--json").stdout)
    assert shown["assumed"]["daily_users"] == 1e6
    assert shown["measured"]["read_ms"]["source"] == "memory.json"
    assert shown["plan"]["shards"] >= 1


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    done = run("--reports", str(tmp_path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "memory.json cannot be read" in done.stderr
    assert "python -m loadtests.memory" in done.stderr
    assert "--history 70 was not measured; there is 50, 100" in run("--history", "70").stderr
    for name in ("memory", "bench"):
        (tmp_path / f"{name}.json").write_text('{"figures": {}}')
    with pytest.raises(BadInput, match="has no 'store'"):
        read(tmp_path)


def test_the_load_tests_capacity_is_used_where_it_is_there(tmp_path: Path) -> None:
    for name in ("memory", "bench"):
        (tmp_path / f"{name}.json").write_text((REPORTS / f"{name}.json").read_text())
    assert read(tmp_path).slates_per_s is None
    stamp = {"command": "c", "commit": "1", "date": "d", "machine": "m"}
    report = stamp | {"figures": {"rerank 200": {"capacity": 123.0}}}
    (tmp_path / "load.json").write_text(json.dumps(report))
    assert read(tmp_path).slates_per_s == Figure(123.0, "load.json")
