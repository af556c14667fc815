"""What `loadtests.memory` finds, against real servers and files, and small."""

from __future__ import annotations

import asyncio
from pathlib import Path

from loadtests.memory import catalogue, store
from service.catalogue.file import CatalogueWriter
from tests.service import tiny_bundle
from tests.service.running import running


def test_a_user_costs_the_bytes_of_the_sequence_and_some_more(tmp_path: Path) -> None:
    found = asyncio.run(store.measured(tmp_path, 1000))
    half, full = found["sequences"]
    assert (half["events"], full["events"]) == (50, 100)
    for row in (half, full):
        assert row["packed_bytes"] < row["bytes_a_user"] < row["packed_bytes"] + 600
        assert abs(row["users_a_gib"] * row["bytes_a_user"] / 2**30 - 1) < 0.01
    assert full["packed_bytes"] < found["write_1_event_aof_bytes"] < 2 * full["packed_bytes"]
    assert 12 < found["claims"]["bytes_an_event"] < 100, "a claim is 12 bytes"
    assert found["left_the_sequence_bytes_an_event"] > 28, "a record is at least that"
    assert found["write_1_event_server_cpu_ms"] > 0
    assert found["read_server_cpu_ms"] > 0


def test_a_process_memory_tells_the_file_from_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "catalogue"
    with CatalogueWriter(path) as writer:
        writer.add(catalogue._videos(30_000))
        writer.finish()
    size = path.stat().st_size / 2**20
    bundle = tiny_bundle.write(tmp_path / tiny_bundle.FIRST)
    with running(bundle, tmp_path / "data", REELRANK_CATALOGUE=str(path)) as service:
        found = catalogue._memory(service.process.pid, path)
    assert 0 < found["file_rss"] <= size + 0.1
    assert found["file_pss"] <= found["file_rss"]
    assert found["own"] <= found["pss"] <= found["rss"]
    assert found["own"] + found["file_rss"] <= found["rss"] + 0.1


def test_every_way_to_look_up_is_timed(tmp_path: Path) -> None:
    path = tmp_path / "catalogue"
    with CatalogueWriter(path) as writer:
        writer.add(catalogue._videos(2000))
        writer.finish()
    found = catalogue._lookups(path, 2000)
    assert set(found["lookup_500_us"]) >= {"lookup_any", "objects_any", "objects_near", "nothing_lacks"}
    assert all(0 < row["p10"] <= row["p50"] for row in found["lookup_500_us"].values())
