"""The arithmetic of a plan, by hand; and the committed page is that of the committed reports."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from loadtests.capacity import (
    GIB,
    Assumptions,
    Measured,
    Plan,
    main,
    read_reports,
    render_offline,
    render_page,
)
from models.errors import BadInput
from tests.conftest import ROOT

REPORTS = ROOT / "loadtests"

MEASURED = Measured(
    user_bytes={50: 1500, 100: 3000},
    packed_bytes={50: 1400, 100: 2800},
    claim_bytes=20,
    left_bytes=50,
    read_ms=0.1,
    write_ms=0.5,
    append_bytes=3000,
    worker_bytes=GIB / 8,
    video_bytes=GIB / 1e7,
    slate_ms=5,
    event_ms=0.25,
    slates_per_s=None,
    origins=("x.json: …",),
)

# 86.4 million users, each ten slates and twenty events a day: 10,000 slates and 20,000 events a second.
ASSUMED = Assumptions(
    daily_users=86.4e6,
    requests_per_user=10,
    events_per_user=20,
    peak_factor=2,
    known_share=2,
    history=100,
    window_days=1,
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


def test_the_plan_by_hand() -> None:
    plan = Plan(MEASURED, ASSUMED)
    assert plan.slates_per_s == pytest.approx(20_000)
    assert plan.events_per_s == pytest.approx(40_000)

    assert plan.worker_slates_per_s == pytest.approx(100)  # half of 1000 ms / 5 ms
    assert plan.slate_workers == 200
    assert plan.event_workers == 20  # 40,000 x 0.25 ms = 10 s a second, at half
    assert plan.worker_machines == 35  # 220 / 8 x 1.25 = 34.4
    assert plan.worker_machine_gib == pytest.approx(2)  # 8 x 1/8 + the catalogue's 1

    # 172.8 million users x 3000 bytes, 1.728 thousand million events x (20 + 2 x 50) bytes
    assert plan.state_gib == pytest.approx((172.8e6 * 3000 + 1.728e9 * 120) / GIB)
    # 725.8e9 / (5 GiB = 5.3687e9) = 135.2; 20,000 x 0.1 + 40,000 x 0.5 ms = 22 s a second, at half;
    # 120 MB/s / 50 MB/s = 2.4; 0.448 + 0.96 Gbit/s of 5
    assert plan.shards_by == {"memory": 136, "processor": 44, "disk": 3, "network": 1}
    assert (plan.shards, plan.decided_by) == (136, "memory")
    assert (plan.store_processes, plan.store_gib) == (272, 2720)
    assert plan.append_tb_per_day == pytest.approx(86.4e6 * 20 * 3000 / 1e12)

    assert plan.client_gbit == pytest.approx(8e-9 * (20_000 * 25_000 + 40_000 * 250))
    assert plan.store_gbit == pytest.approx(8e-9 * 20_000 * 2800)
    assert plan.replica_gbit == pytest.approx(8e-9 * 40_000 * 3000)


def test_a_measured_rate_of_a_worker_counts_if_it_is_less() -> None:
    assert Plan(replace(MEASURED, slates_per_s=80), ASSUMED).slate_workers == 250
    assert Plan(replace(MEASURED, slates_per_s=180), ASSUMED).slate_workers == 200


def test_a_shorter_history_costs_less_and_pushes_no_events_out() -> None:
    plan = Plan(MEASURED, replace(ASSUMED, history=50))
    assert plan.left_gib == 0
    assert plan.state_gib == pytest.approx((172.8e6 * 1500 + 1.728e9 * 20) / GIB)


def test_a_limit_is_the_audience_at_which_one_shard_is_enough() -> None:
    for resource, owner, users in Plan(MEASURED, ASSUMED).limits:
        below, above = (Plan(MEASURED, replace(ASSUMED, daily_users=users * f)) for f in (0.999, 1.001))
        if owner == "shard":
            assert (below.shards_by[resource], above.shards_by[resource]) == (1, 2), resource


@pytest.mark.parametrize(
    ("dearer", "first", "decided_by"),
    [
        ({}, "memory", "memory"),
        ({"write_ms": 5.0}, "processor", "processor"),
        ({"append_bytes": 300_000.0}, "disk", "disk"),
        ({"slate_ms": 500.0}, "processor", "memory"),
    ],
)
def test_the_bottleneck_follows_the_costs(dearer: dict[str, float], first: str, decided_by: str) -> None:
    measured = replace(MEASURED, **dearer)  # type: ignore[arg-type]  # members by name
    plan = Plan(measured, ASSUMED)
    assert (plan.limits[0][0], plan.decided_by) == (first, decided_by)
    assert f"The first bottleneck is the {first} of a" in render_page("c", measured, ASSUMED, plan)


def test_a_bigger_audience_never_takes_fewer_of_anything() -> None:
    plans = [Plan(MEASURED, replace(ASSUMED, daily_users=users)) for users in (1, 1e3, 1e6, 3e8, 2e9)]
    for name in ("slate_workers", "event_workers", "worker_machines", "shards", "store_gib"):
        counts = [getattr(plan, name) for plan in plans]
        assert counts == sorted(counts), name


def test_every_assumption_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"--{field.name.replace('_', '-')}" in text for field in fields(Assumptions))


def test_the_committed_page_is_that_of_the_committed_reports() -> None:
    """`python -m loadtests.capacity` writes it again when a report has changed."""
    measured, assumed = read_reports(REPORTS), Assumptions()
    page = render_page("python -m loadtests.capacity", measured, assumed, Plan(measured, assumed))
    page += render_offline(json.loads((REPORTS / "offline.json").read_text()), assumed)
    assert (REPORTS / "CAPACITY.md").read_text() == page


def test_a_larger_log_is_on_the_line_through_both_sizes() -> None:
    small = {"rows": 1_000, "cpu_s": 3.0, "peak_mib": 200.0, "bytes_read": 10_000, "bytes_written": 5_000}
    large = {"rows": 2_000, "cpu_s": 4.0, "peak_mib": 201.0, "bytes_read": 30_000, "bytes_written": 6_000}
    flat = large | {"peak_mib": 200.0}
    report = {
        "figures": {"label": [small, flat], "fit": [small, large]},
        "config": {"fit": ["loop.epochs=2"]},
    }
    report |= dict.fromkeys(("command", "date", "commit", "machine"), "x")
    page = render_offline(report, replace(ASSUMED, offline_gib=1))
    # 1 ms a row: 10^6 s; 1 MiB in 1,000 rows; 823 MiB are left
    assert "| `label` | 1,000.0 | 277.8 | 2,777.8 | 20 | 1 | 200 | 2,000 | 0 | any |" in page
    assert "| `fit` | 1,000.0 | 277.8 | 2,777.8 | 20 | 1 | 201 | 2,000 | 1,049 | 825,000 |" in page
    assert "memory of `fit`: 1 GiB hold 825,000 rows" in page


def test_a_page_for_another_audience_has_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audience, out = ["--daily-users", "1e6", "--replicas", "2"], tmp_path / "page.md"
    main([*audience, "--out", str(out)])
    page = capsys.readouterr().out
    assert out.read_text() == page
    assert "`python -m loadtests.capacity --daily-users 1e+06 --replicas 2`" in page
    assert "Capacity for 1 million daily users" in page
    main([*audience, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["assumed"]["daily_users"] == 1e6
    assert report["measured"]["read_ms"] > 0
    assert report["plan"]["shards"] >= 1


def test_missing_input_is_an_error_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        "memory.json cannot be read": ["--reports", str(tmp_path)],
        "--history 70 was not measured; there is 50, 100": ["--history", "70"],
        "--busy must be from 0.05 to 1": ["--busy", "2"],
    }
    for message, arguments in cases.items():
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    for name in ("memory", "bench"):
        (tmp_path / f"{name}.json").write_text('{"figures": {}}')
    with pytest.raises(BadInput, match="has no 'store'"):
        read_reports(tmp_path)


def test_the_capacity_of_the_load_test_is_used_where_it_exists(tmp_path: Path) -> None:
    for name in ("memory", "bench"):
        (tmp_path / f"{name}.json").write_text((REPORTS / f"{name}.json").read_text())
    assert read_reports(tmp_path).slates_per_s is None
    origin = {"command": "c", "commit": "1", "date": "d", "machine": "m"}
    (tmp_path / "load.json").write_text(json.dumps(origin | {"figures": {"rerank 200": {"capacity": 123.0}}}))
    assert read_reports(tmp_path).slates_per_s == 123.0
