"""Recent requests that a new bundle is run through: what is kept of them, and what they keep out."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from models.errors import SelfTestFailed
from models.runtime import GPU_MEMORY_MIB, Bundle
from service.inference.loader import BundleLoader
from service.inference.rollout import Rollout
from service.inference.traffic_sample import CAPACITY, MAX_ROWS, File, TrafficSample, read, with_checksum
from service.telemetry.bundles import BundleMetrics
from tests.service import tiny_bundle
from tests.service.broken_bundle import point_at
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, served
from tests.service.tiny_bundle import FIRST, SECOND, TROUBLE_S

NAN, FAILING = "20260107-00000007", "20260106-00000006"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    tiny_bundle.write_root(folder, FIRST, SECOND)
    tiny_bundle.write(folder / NAN, NAN, twist="nan")
    tiny_bundle.write(folder / FAILING, FAILING, twist="raise")
    return folder


@contextmanager
def app(root: Path, tmp_path: Path) -> Iterator[httpx2.Client]:
    with served(root, MemoryStore(), tmp_path / "data", deadline_ms=10_000) as client:
        yield client


def rerank(client: httpx2.Client, *durations: float, user: str = "u") -> None:
    slate = [{"video_id": f"video-of-{user}-{i}", "duration_s": d} for i, d in enumerate(durations)]
    client.post("/rerank", json={"user_id": user, "candidates": slate}).raise_for_status()


def slate_arrays(exposures: int, durations: list[float]) -> dict[str, Any]:
    return {
        "sequence_feedback": np.ones((1, exposures, 8), np.float32),
        "sequence_age_s": np.ones((1, exposures), np.float32),
        "candidate_duration_s": np.array([durations], np.float32),
    }


def file_of(tmp_path: Path) -> Path:
    return tmp_path / "data" / "recorded.bin"


# --- what they keep out


@pytest.mark.parametrize("version", [NAN, FAILING])
def test_a_bundle_that_fails_on_what_was_answered_is_refused(
    root: Path, tmp_path: Path, version: str
) -> None:
    with app(root, tmp_path) as client:
        client.post(f"/v1/models/{version}:split", json={"share": 0.5}).raise_for_status()
        client.post(f"/v1/models/{version}:split", json={"share": 0}).raise_for_status()
        rerank(client, 20.0, TROUBLE_S)
        for call, body in ((":activate", None), (":split", {"share": 0.5}), (":shadow", {"share": 0.5})):
            reply = client.post(f"/v1/models/{version}{call}", json=body)
            assert (reply.status_code, "recorded slate" in reply.json()["detail"]) == (409, True)
        point_at(root, version + "\n")
        refused = (
            f'reelrank_bundle_refused{{reason="self_test_failed",role="current",version="{version}"}} 1.0'
        )
        assert eventually(lambda: refused in client.get("/metrics").text)
        assert client.get("/health/ready").json()["model_version"] == FIRST
        client.post(f"/v1/models/{SECOND}:activate").raise_for_status()
        assert refused not in client.get("/metrics").text


def test_a_bundle_on_trial_is_run_through_what_came_meanwhile(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        client.post(f"/v1/models/{NAN}:split", json={"share": 0.5}).raise_for_status()
        user = next(user for user in map(str, range(100)) if not Rollout(NAN, 0.5).includes(user))
        rerank(client, TROUBLE_S, user=user)
        assert client.post(f"/v1/models/{NAN}:activate").status_code == 409


def test_after_a_restart_they_still_keep_it_out(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        rerank(client, TROUBLE_S)
    with app(root, tmp_path) as client:
        assert client.post(f"/v1/models/{NAN}:activate").status_code == 409


def test_the_only_bundle_there_is_serves_all_the_same_and_says_so(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with app(root, tmp_path) as client:
        rerank(client, TROUBLE_S)
    (root / "CURRENT").write_text(NAN + "\n")
    with app(root, tmp_path) as client:
        assert client.get("/health/ready").json()["model_version"] == NAN
    assert "there is no other" in caplog.text


def test_what_the_bundle_that_answered_could_not_do_is_not_asked_of_another(
    root: Path, tmp_path: Path
) -> None:
    (root / "CURRENT").write_text(NAN + "\n")
    with app(root, tmp_path) as client:
        rerank(client, TROUBLE_S)  # its NaN was replaced
        client.post(f"/v1/models/{FIRST}:activate").raise_for_status()
        client.post(f"/v1/models/{NAN}:activate").raise_for_status()


def test_labels_are_run_through_too(tmp_path: Path) -> None:
    bundle = Bundle.load(tiny_bundle.write(tmp_path / FIRST, grouped=True))
    kept = TrafficSample(tmp_path / "r")
    kept.add_events(np.array([[1.0, 2.0, 0, 0, 0, 0, 0, 0]], np.float32))
    kept.replay(bundle)
    kept.add_events(np.zeros((1, 8), np.float32))  # 0 s of 0 s: NaN; no event may say so
    with pytest.raises(SelfTestFailed, match="`labelcraft` is not finite on a recorded body"):
        kept.replay(bundle)


# --- what is kept


def test_no_id_of_a_user_a_video_or_an_event_is_on_the_disk(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        client.post(
            "/label", json=event("event-id-1", "a-user-id", session_id="session-id")
        ).raise_for_status()
        rerank(client, 20.0, 30.0, user="a-user-id")
    content = file_of(tmp_path).read_bytes()
    assert np.float32(30.0).tobytes() in content
    for text in (b"user-id", b"event-id", b"session-id", b"video-of", b"v1"):
        assert text not in content
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in file_of(tmp_path).parent.iterdir() if "recorded" in p.name] == ["recorded.bin"]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=100))
def test_what_is_saved_is_loaded_and_never_more_than_there_is_room_for(
    tmp_path_factory: pytest.TempPathFactory, slates: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("r") / "r"
    first, second = TrafficSample(path), TrafficSample(path)
    for exposures, candidates in slates:
        first.add_slate(slate_arrays(exposures, [float("nan")] + [20.0] * (candidates - 1)))
        first.add_events(np.ones((exposures + 1, 8), np.float32))
    assert len(first) == 2 * min(len(slates), CAPACITY)
    first.save()
    second.load()
    assert len(second) == len(first)


def test_a_body_of_very_many_events_is_cut(tmp_path: Path) -> None:
    kept = TrafficSample(tmp_path / "r")
    kept.add_events(np.ones((MAX_ROWS * 3, 8), np.float32))
    kept.save()
    assert (tmp_path / "r").stat().st_size < MAX_ROWS * 8 * 4 + 1000


def test_later_requests_take_the_places_of_earlier_ones(tmp_path: Path) -> None:
    kept = TrafficSample(tmp_path / "r")
    for duration in range(20_000):
        kept.add_slate(slate_arrays(1, [float(duration)]))
    kept.save()
    slates, _ = read(tmp_path / "r")
    durations = [float(slate.duration_s[0]) for slate in slates]
    assert len(set(durations)) == CAPACITY
    assert max(durations) > 15_000  # 1 in 10^20 that none of the last quarter is there


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "other columns", "empty"])
def test_a_spoilt_file_is_ignored_with_one_line_and_replaced(
    root: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = file_of(tmp_path)
    with app(root, tmp_path) as client:
        rerank(client, TROUBLE_S)
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-3],
            "flipped": content[:40] + bytes([content[40] ^ 1]) + content[41:],
            "foreign": json.dumps({"users": ["a"]}).encode(),
            "other columns": with_checksum(File([], [], columns="0123456789abcdef")),
            "empty": b"",
        }[damage]
    )
    with caplog.at_level(logging.WARNING), app(root, tmp_path) as client:
        assert len([r for r in caplog.records if "ignored" in r.message]) == 1
        client.post(f"/v1/models/{NAN}:activate").raise_for_status()
        client.post(f"/v1/models/{FIRST}:activate").raise_for_status()
        rerank(client, TROUBLE_S)
    with app(root, tmp_path) as client:
        assert client.post(f"/v1/models/{NAN}:activate").status_code == 409


def test_a_folder_that_cannot_be_written_costs_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept = TrafficSample(tmp_path / "file" / "r")
    kept.add_slate(slate_arrays(1, [20.0]))
    kept.save()
    kept.load()
    assert "cannot be saved" in caplog.text


def test_a_bundle_of_shorter_sequences_and_another_vocabulary_is_run_through_too(tmp_path: Path) -> None:
    kept = TrafficSample(tmp_path / "r")
    kept.add_slate(slate_arrays(tiny_bundle.SEQUENCE_LENGTH * 3, [20.0, float("nan")]))
    loader = BundleLoader("cpu", GPU_MEMORY_MIB, kept, BundleMetrics(CollectorRegistry()))
    bundle = asyncio.run(loader.load(tiny_bundle.write(tmp_path / FIRST)))
    assert bundle.manifest.version == FIRST
