"""What `loadtests.memory` measures, against real servers and files, in small."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtests import memory
from loadtests.environment import Service

pytestmark = pytest.mark.slow


def test_a_user_costs_the_bytes_of_the_sequence_and_some_more(tmp_path: Path) -> None:
    figures = asyncio.run(memory.measure_store(tmp_path, 1000))
    half, full = figures["sequences"]
    assert (half["events"], full["events"]) == (50, 100)
    for row in (half, full):
        assert row["packed_bytes"] < row["bytes_a_user"] < row["packed_bytes"] + 600
        assert abs(row["users_a_gib"] * row["bytes_a_user"] / 2**30 - 1) < 0.01
    assert 100 < figures["write_1_event_aof_bytes"] < 600
    assert 100 < figures["busy_user"]["write_1_event_aof_bytes"] < 600
    assert 12 < figures["claims"]["bytes_an_event"] < 100, "a claim is 12 bytes"
    assert figures["left_the_sequence_bytes_an_event"] > 28, "a record is at least that"
    assert figures["write_1_event_server_cpu_ms"] > 0
    assert figures["read_server_cpu_ms"] > 0


def test_the_memory_of_a_process_is_split_into_the_file_and_the_rest(version: Path, tmp_path: Path) -> None:
    path = tmp_path / "catalogue"
    memory.write_catalogue(path, 30_000)
    size = path.stat().st_size / 2**20
    with Service(version, tmp_path / "data", env={"REELRANK_CATALOGUE": str(path)}) as service:
        mib = memory.process_memory_mib(service.pid, path)
    assert 0 < mib["file_rss"] <= size + 0.1
    assert mib["file_pss"] <= mib["file_rss"]
    assert mib["own"] <= mib["pss"] <= mib["rss"]
    assert mib["own"] + mib["file_rss"] <= mib["rss"] + 0.1


def test_every_way_to_look_up_is_timed(tmp_path: Path) -> None:
    path = tmp_path / "catalogue"
    memory.write_catalogue(path, 2000)
    lookups = memory._in_a_process(memory.time_lookups, path, 2000)["lookup_500_us"]
    assert set(lookups) >= {"lookup_any", "objects_any", "objects_near", "nothing_lacks"}
    assert all(0 < row["p10"] <= row["p50"] for row in lookups.values())
