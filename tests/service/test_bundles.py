"""Versions while running: promote, activate, roll back, and what a bad bundle can do (nothing)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from models.errors import BundleNotFound, CorruptBundle
from models.store import BundleStore
from service.store import MemoryStore
from tests.models import tiny as other_bundle
from tests.service import tiny_bundle
from tests.service.running import event, eventually, served
from tests.service.tiny_bundle import FIRST, SECOND

BROKEN = "20260103-00000003"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    tiny_bundle.write_root(folder, FIRST, SECOND)
    return folder


@contextmanager
def app(root: Path, tmp_path: Path) -> Iterator[httpx2.Client]:
    with served(root, MemoryStore(), tmp_path / "data") as client:
        yield client


def answers(client: httpx2.Client) -> tuple[str, float]:
    """Version and label of one event: half watched, so 0.5 of the first and 0.375 of the second version."""
    reply = client.post("/label?store=false", json=event()).json()
    return reply["model_version"], reply["labels"][0]["label"]


def broken(root: Path, how: str) -> None:
    """A third version that cannot be used."""
    folder = root / BROKEN
    if how == "another ranker":
        other_bundle.write(folder, BROKEN)
        return
    tiny_bundle.write(folder, BROKEN)
    if how == "truncated":
        (folder / "ranker.onnx").write_bytes((folder / "ranker.onnx").read_bytes()[:-20])
    elif how == "golden rows":
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["labeler"]["golden"]["outputs"]["pcr"]["data"][0] += 0.01
        (folder / "manifest.json").write_text(json.dumps(manifest))
    elif how == "another labeler":
        # One that takes something we have never heard of; sound in itself.
        path = folder / "labeler.onnx"
        before, renamed = tiny_bundle.sha256(path), path.read_bytes().replace(b"feedback", b"goodwill")
        path.write_bytes(renamed)
        manifest = (folder / "manifest.json").read_text()
        manifest = manifest.replace('"feedback"', '"goodwill"').replace(before, tiny_bundle.sha256(path))
        (folder / "manifest.json").write_text(manifest)
    elif how == "no manifest's json":
        (folder / "manifest.json").write_bytes(b"{}")


HOW = ["truncated", "golden rows", "no manifest's json", "another ranker", "another labeler"]


def test_a_promoted_version_is_taken_without_a_restart(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        assert answers(client) == (FIRST, 0.5)
        BundleStore(root).promote(SECOND)
        assert eventually(lambda: answers(client) == (SECOND, 0.375))
        assert client.get("/v1/models").json()["active"] == SECOND


def test_activate_and_rollback_answer_from_the_version_they_name(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        reply = client.post(f"/v1/models/{SECOND}:activate")
        assert reply.json() == {"model_version": SECOND, "provider": "CPUExecutionProvider"}
        assert answers(client) == (SECOND, 0.375)
        assert BundleStore(root).current() == SECOND
        assert client.post("/v1/models:rollback").json()["model_version"] == FIRST
        assert answers(client) == (FIRST, 0.5)
    with app(root, tmp_path) as client:
        assert answers(client) == (FIRST, 0.5)


def test_there_may_be_nothing_to_go_back_to(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        assert client.post("/v1/models:rollback").status_code == 404
        assert answers(client) == (FIRST, 0.5)


@pytest.mark.parametrize("how", HOW)
def test_activating_a_bad_bundle_keeps_the_old_one(root: Path, tmp_path: Path, how: str) -> None:
    broken(root, how)
    with app(root, tmp_path) as client:
        reply = client.post(f"/v1/models/{BROKEN}:activate")
        assert reply.status_code == 409
        assert reply.json()["detail"]
        assert answers(client) == (FIRST, 0.5)
        assert BundleStore(root).current() == FIRST


@pytest.mark.parametrize("how", HOW)
def test_promoting_a_bad_bundle_keeps_the_old_one_and_counts(root: Path, tmp_path: Path, how: str) -> None:
    with app(root, tmp_path) as client:
        broken(root, how)
        (root / "CURRENT").write_text(BROKEN + "\n")
        counted = 'reelrank_bundle_reloads_total{outcome="failed"} 1.0'
        assert eventually(lambda: counted in client.get("/metrics").text)
        assert answers(client) == (FIRST, 0.5)
        assert client.get("/health/ready").json()["model_version"] == FIRST
        BundleStore(root).promote(SECOND)
        assert eventually(lambda: answers(client) == (SECOND, 0.375))


def test_a_spoilt_current_keeps_the_old_bundle(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        for spoilt in ("", "../../etc\n", "20990101-00000000\n"):
            (root / "CURRENT").write_text(spoilt)
            assert not eventually(lambda: answers(client) != (FIRST, 0.5), seconds=0.2)
        (root / "CURRENT").write_text(SECOND + "\n")
        assert eventually(lambda: answers(client) == (SECOND, 0.375))


def test_every_answer_is_of_one_version_while_they_change(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        stop = threading.Event()
        seen: set[tuple[str, float]] = set()

        def ask() -> None:
            with httpx2.Client(base_url=client.base_url) as other:
                while not stop.is_set():
                    seen.add(answers(other))

        asking = threading.Thread(target=ask)
        asking.start()
        for _ in range(5):
            for version in (SECOND, FIRST):
                client.post(f"/v1/models/{version}:activate").raise_for_status()
        stop.set()
        asking.join()
        assert seen == {(FIRST, 0.5), (SECOND, 0.375)}


def test_models_tells_what_there_is(root: Path, tmp_path: Path) -> None:
    broken(root, "truncated")
    with app(root, tmp_path) as client:
        reply = client.get("/v1/models").json()
    assert (reply["active"], reply["provider"]) == (FIRST, "CPUExecutionProvider")
    assert [(m["version"], m["active"]) for m in reply["models"]] == [
        (FIRST, True),
        (SECOND, False),
        (BROKEN, False),
    ]
    first, _, third = reply["models"]
    assert first["files"]["ranker.onnx"] == tiny_bundle.sha256(root / FIRST / "ranker.onnx")
    assert first["labels"] == ["labelcraft", "pcr"]
    assert "sha256" in third["error"]


def test_without_a_version_the_service_waits_for_one(root: Path, tmp_path: Path) -> None:
    (root / "CURRENT").unlink()
    with app(root, tmp_path) as client:
        for path in ("/label", "/rerank"):
            reply = client.post(path, json=event())
            assert (reply.status_code, "retry-after" in reply.headers) == (503, True)
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        BundleStore(root).promote(FIRST)
        assert eventually(lambda: client.get("/health/ready").status_code == 200)
        assert answers(client) == (FIRST, 0.5)


def test_one_versions_folder_is_served_and_stays(root: Path, tmp_path: Path) -> None:
    with app(root / SECOND, tmp_path) as client:
        assert answers(client) == (SECOND, 0.375)
        assert [m["version"] for m in client.get("/v1/models").json()["models"]] == [SECOND]
        assert client.post(f"/v1/models/{FIRST}:activate").status_code == 409
        assert client.post("/v1/models:rollback").status_code == 409


def test_a_bundle_that_is_bad_at_the_start_ends_the_start(root: Path, tmp_path: Path) -> None:
    broken(root, "truncated")
    with pytest.raises(CorruptBundle), app(root / BROKEN, tmp_path):
        pass
    with pytest.raises(BundleNotFound), app(root / "nowhere", tmp_path):
        pass
