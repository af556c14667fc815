"""What a service sees is compared with the reference of its bundle, over all workers, in bounded windows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from models.histogram import Histogram, counts, psi
from models.manifest import MANIFEST, Manifest
from service.telemetry.drift import BLOCKS, BUFFERED, MIN_VALUES, SAMPLED, WINDOW, Drift
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, running, served

RATIOS = np.random.default_rng(0).uniform(0, 1, 5_000)
"""Watch ratios that the tiny bundle "was fitted on"; its `labelcraft` is the watch ratio."""

REFERENCE = {
    "event.watch_ratio": Histogram.from_values(RATIOS),
    "label.labelcraft": Histogram.from_values(RATIOS),
    "ranker.watch_ratio": Histogram.from_values(RATIOS),
    "history_length": Histogram.from_values(np.arange(50)),
}


def with_reference(folder: Path) -> Manifest:
    manifest = Manifest.read(folder).model_copy(update={"reference": REFERENCE})
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return manifest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two versions, both with a reference, the first promoted."""
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, tiny_bundle.FIRST, tiny_bundle.SECOND)
    for version in (tiny_bundle.FIRST, tiny_bundle.SECOND):
        with_reference(root / version)
    return root


def send(client: httpx2.Client, ratios: np.ndarray[tuple[int], np.dtype[np.float64]], name: str) -> None:
    """Label events of these watch ratios, as many a request as all are sampled of."""
    for start in range(0, len(ratios), SAMPLED):
        body = [
            event(f"{name}-{start}-{i}", f"{name}{start}", watch_time_s=24.0 * ratio, duration_s=24.0)
            for i, ratio in enumerate(ratios[start : start + SAMPLED].tolist())
        ]
        client.post("/label?store=false", json=body).raise_for_status()


def index_of(text: str) -> dict[str, float]:
    found = re.findall(r'^reelrank_drift_psi\{what="([^"]+)"\} (\S+)$', text, re.M)
    return {what: float(value) for what, value in found}


def bins_of(text: str, kind: str, version: str = tiny_bundle.FIRST) -> dict[int, float]:
    pattern = rf'^reelrank_values_total\{{bin="(\d+)",version="{version}",what="{re.escape(kind)}"\}} (\S+)$'
    return {int(index): float(value) for index, value in re.findall(pattern, text, re.M)}


def test_values_like_the_training_rows_are_near_and_others_are_far(root: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    with served(root, MemoryStore(), tmp_path) as client:
        send(client, random.uniform(0, 1, 2_000), "same")
        near = index_of(client.get("/metrics").text)
        send(client, random.uniform(0, 0.3, 4_000), "less")
        far = index_of(client.get("/metrics").text)
    for what in ("event.watch_ratio", "label.labelcraft"):
        assert near[what] < 0.05
        assert far[what] > 0.5
    assert set(near) == {"event.watch_ratio", "label.labelcraft"}  # of the others nothing was seen


def test_counters_hold_each_sampled_value_in_its_bin(root: Path, tmp_path: Path) -> None:
    ratios = np.linspace(0, 0.999, 160)
    with served(root, MemoryStore(), tmp_path) as client:
        send(client, ratios, "a")
        text = client.get("/metrics").text
    edges = np.array(REFERENCE["event.watch_ratio"].edges)
    want = counts(edges, (24.0 * ratios).astype(np.float32) / np.float32(24.0))
    assert bins_of(text, "event.watch_ratio") == {i: n for i, n in enumerate(want.tolist()) if n}
    assert not index_of(text)  # 160 values say nothing yet


def test_of_one_request_a_bounded_number_is_taken_evenly(root: Path, tmp_path: Path) -> None:
    slate = [{"video_id": f"v{i}", "duration_s": 10.0 + i} for i in range(100)]
    with served(root, MemoryStore(), tmp_path) as client:
        client.post("/rerank", json={"user_id": "u", "candidates": slate}).raise_for_status()
        text = client.get("/metrics").text
    assert SAMPLED / 2 <= sum(bins_of(text, "ranker.watch_ratio").values()) <= SAMPLED
    assert len(bins_of(text, "ranker.watch_ratio")) > 1  # from both ends of the slate
    assert sum(bins_of(text, "history_length").values()) == 1


def test_a_bundle_without_reference_has_no_drift_series(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path) as client:
        send(client, np.full(1_200, 0.5), "a")
        text = client.get("/metrics").text
    assert not re.search(r"^reelrank_(values|drift)\w*\{", text, re.M)


def test_another_bundle_begins_a_window_of_its_own(root: Path, tmp_path: Path) -> None:
    with served(root, MemoryStore(), tmp_path) as client:
        send(client, np.full(1_200, 0.5), "a")
        assert index_of(client.get("/metrics").text)
        client.post(f"/v1/models/{tiny_bundle.SECOND}:activate").raise_for_status()
        send(client, np.full(160, 0.5), "b")
        text = client.get("/metrics").text
    assert not index_of(text)
    assert sum(bins_of(text, "label.labelcraft").values()) == 1_200
    assert sum(bins_of(text, "label.labelcraft", tiny_bundle.SECOND).values()) == 160


@pytest.mark.slow
def test_the_index_is_of_all_workers(root: Path, tmp_path: Path) -> None:
    """Neither of two workers has seen enough by itself, or the same."""
    ratios = np.random.default_rng(2).uniform(0, 1, MIN_VALUES + 200)
    with running(root, tmp_path / "data", "--workers", "2") as service:
        for start in range(0, len(ratios), 10 * SAMPLED):
            with service.client() as client:  # a connection each, so that both get some
                send(client, ratios[start : start + 10 * SAMPLED], f"u{start}-")

        def text() -> str:
            with service.client() as client:
                return client.get("/metrics").text

        whole = float(len(ratios))
        assert eventually(lambda: sum(bins_of(text(), "label.labelcraft").values()) == whole)
        assert eventually(lambda: "label.labelcraft" in index_of(text()))
        found = text()
    counted = bins_of(found, "label.labelcraft")
    reference = REFERENCE["label.labelcraft"]
    want = psi(reference.shares, np.array([int(counted.get(i, 0)) for i in range(len(reference.shares))]))
    assert index_of(found)["label.labelcraft"] == pytest.approx(want)


# --- the window, without a service


def windowed(manifest: Manifest, slates: list[int]) -> Iterator[tuple[int, int]]:
    """After so many slates each: values so far, and values in the window."""
    registry = CollectorRegistry()
    drift = Drift(registry)
    drift.serving(manifest)
    half = np.full(SAMPLED, 0.5, np.float32)
    total = 0
    for number in slates:
        for _ in range(number):
            drift.ranked(tiny_bundle.FIRST, 7, [("watch_ratio", half)])
        total += number * SAMPLED
        drift.publish()
        families = {family.name: family for family in registry.collect()}
        window, counted = (
            sum(
                s.value
                for s in families[f"reelrank_{name}"].samples
                if s.labels["what"] == "ranker.watch_ratio"
            )
            for name in ("drift_window", "values")
        )
        assert counted == total
        yield total, int(window)


def test_the_window_holds_the_newest_values_to_within_a_block(root: Path) -> None:
    manifest = Manifest.read(root / tiny_bundle.FIRST)
    block = WINDOW // BLOCKS + BUFFERED + SAMPLED  # what one holds at most

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.integers(0, 1_500), max_size=6))
    def holds(slates: list[int]) -> None:
        for total, window in windowed(manifest, slates):
            assert window <= min(total, BLOCKS * block)
            assert window >= min(total, WINDOW - WINDOW // BLOCKS)

    holds()


def test_values_of_a_bundle_that_has_just_gone_are_not_mixed_in(root: Path) -> None:
    registry = CollectorRegistry()
    drift = Drift(registry)
    drift.serving(Manifest.read(root / tiny_bundle.SECOND))
    drift.ranked(tiny_bundle.FIRST, 7, ())
    drift.labelled(tiny_bundle.FIRST, np.ones((1, 8), np.float32), {"labelcraft": [1.0]})
    drift.publish()
    assert not [s for family in registry.collect() for s in family.samples]
