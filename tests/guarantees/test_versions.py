"""Promises about bundles: swapped whole, never for a bad one, and the way back."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import httpx2
import pytest

from models.store import BundleStore
from tests.service import tiny_bundle
from tests.service.running import event, eventually, running
from tests.service.tiny_bundle import FIRST, SECOND

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

LABELS = {FIRST: 0.5, SECOND: 0.375}
"""Of the event that is half watched."""


def label(client: httpx2.Client) -> tuple[str, float]:
    reply = client.post("/label?store=false", json=event()).raise_for_status().json()
    return reply["model_version"], reply["labels"][0]["label"]


class Asker(threading.Thread):
    """Asks for labels and slates without a pause."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.stop = threading.Event()
        self.statuses: list[int] = []
        self.seen: set[tuple[str, float]] = set()

    def run(self) -> None:
        slate = {"user_id": "unknown", "candidates": [{"video_id": "v1", "duration_s": 20.0}]}
        with httpx2.Client(base_url=self._url, timeout=30) as client:
            while not self.stop.is_set():
                reply = client.post("/label?store=false", json=event())
                self.statuses.append(reply.status_code)
                if reply.status_code == 200:
                    self.seen.add((reply.json()["model_version"], reply.json()["labels"][0]["label"]))
                ranked = client.post("/rerank", json=slate, headers={"x-deadline-ms": "20000"})
                self.statuses.append(ranked.status_code)


def test_06_a_reload_fails_no_request_and_swaps_the_bundle_as_one_and_a_bad_one_changes_nothing(
    tmp_path: Path,
) -> None:
    root = tmp_path / "bundles"
    store = tiny_bundle.write_root(root, FIRST, SECOND)
    bad = [f"2026010{number}-0000000{number}" for number in range(3, 7)]
    for version, name in zip(
        bad, ("labeler.onnx", "ranker.onnx", "vocabulary", "manifest.json"), strict=True
    ):
        folder = tiny_bundle.write(root / version, version)
        (path,) = [p for p in folder.iterdir() if p.name.startswith(name)]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1  # one bit, anywhere
        path.write_bytes(content)
    with running(root, tmp_path / "data") as service, service.client() as client:
        asker = Asker(service.url)
        asker.start()
        try:
            for version in (SECOND, FIRST) * 3:
                store.promote(version)
                assert eventually(lambda v=version: label(client)[0] == v)  # type: ignore[misc]
            for version in bad:
                assert client.post(f"/v1/models/{version}:activate").status_code == 409
                (root / "CURRENT").write_text(version + "\n")  # past every check of ours
                assert eventually(lambda: 'reloads_total{outcome="failed"}' in client.get("/metrics").text)
                assert label(client) == (FIRST, 0.5)
                store.promote(FIRST)
        finally:
            asker.stop.set()
            asker.join()
    assert set(asker.statuses) == {200}
    assert asker.seen == set(LABELS.items()), "labels of one version under the name of another"


def test_07_rollback_goes_back_at_once_everywhere_and_survives_a_restart(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, FIRST, SECOND)
    with running(root, tmp_path / "data", "--workers", "2") as service:
        with service.client() as client:
            client.post(f"/v1/models/{SECOND}:activate").raise_for_status()
            assert label(client) == (SECOND, LABELS[SECOND])
            assert client.post("/v1/models:rollback").json()["model_version"] == FIRST
            assert label(client) == (FIRST, LABELS[FIRST])  # this worker, with its very next answer
        with service.client(headers={"connection": "close"}) as client:
            assert eventually(lambda: {label(client)[0] for _ in range(12)} == {FIRST})
    assert BundleStore(root).current() == FIRST
    with running(root, tmp_path / "data") as service, service.client() as client:
        assert label(client) == (FIRST, LABELS[FIRST])


def test_11_what_is_answered_online_is_what_the_bundle_computes_offline(pair: httpx2.Client) -> None:
    """The tiny bundle's answers can be worked out by hand; `tests/parity` compares real ones with torch."""
    draw = random.Random(0)
    worst = 0.0
    for number in range(25):
        user = f"parity-{number}"
        watched = [draw.uniform(0, 60) for _ in range(draw.randrange(5))]
        lengths = [draw.uniform(5, 60) for _ in watched]
        events = [
            event(f"{user}-{i}", user, watch_time_s=w, duration_s=d)
            for i, (w, d) in enumerate(zip(watched, lengths, strict=True))
        ]
        if events:
            pair.post("/label", json=events).raise_for_status()
        age, length = draw.uniform(1, 90), draw.uniform(5, 90)
        pair.put("/users", json=[{"user_id": user, "profile": {"age": age}}]).raise_for_status()
        slate = {"user_id": user, "tab": "1", "candidates": [{"video_id": "unknown", "duration_s": length}]}
        (item,) = pair.post("/rerank", json=slate, headers={"x-deadline-ms": "20000"}).json()["items"]
        ratio = tiny_bundle.watch_ratio(sum(watched), sum(lengths), length, age=age)
        worst = max(worst, abs(item["watch_ratio"] - ratio), abs(item["watch_time_s"] / length - ratio))
    assert worst < 1e-5
