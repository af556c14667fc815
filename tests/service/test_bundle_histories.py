"""Any history of promoting, going back and trying out: two workers over one folder end where they should."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from prometheus_client import CollectorRegistry

from models.errors import BundleError, BundleNotFound
from service.inference.bundles import Bundles
from service.inference.rollout import ROLES, Role, Rollout
from service.inference.serving_set import LoadedRollout, Serving
from service.inference.traffic_sample import TrafficSample
from service.telemetry.bundles import BundleMetrics
from tests.service import tiny_bundle

VERSIONS = [f"2026010{n}-0000000{n}" for n in range(1, 5)]
BAD = "20260109-00000009"


class Worker:
    """The part of a worker that holds bundles."""

    def __init__(self, folder: Path) -> None:
        self.metrics = BundleMetrics(CollectorRegistry())
        self.serving = Serving(self.metrics)
        self.bundles = Bundles(
            folder,
            self.serving,
            "cpu",
            rollouts={"split": None, "shadow": None},
            sample=TrafficSample(folder / "recorded"),
            metrics=self.metrics,
        )


def rollout_of(loaded: LoadedRollout | None) -> Rollout | None:
    if loaded is None:
        return None
    assert loaded.bundle.manifest.version == loaded.rollout.version
    return loaded.rollout


class Histories(RuleBasedStateMachine):
    """`promoted` and `rollouts` are what the folder holds; `self.workers` follow it."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        tiny_bundle.write_root(self.folder, *VERSIONS)
        tiny_bundle.write(self.folder / BAD, BAD)
        (self.folder / BAD / "ranker.onnx").write_bytes(b"no graph")
        self.promoted = [VERSIONS[0]]
        self.rollouts: dict[Role, Rollout | None] = {"split": None, "shadow": None}
        self.workers = [Worker(self.folder), Worker(self.folder)]
        for worker in self.workers:
            self.run(worker.bundles.start)

    def run(self, step: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        return asyncio.run(step(*args))

    @rule(worker=st.integers(0, 1), version=st.sampled_from(VERSIONS))
    def activate(self, worker: int, version: str) -> None:
        self.run(self.workers[worker].bundles.activate, version)
        if version != self.promoted[-1]:
            self.promoted.append(version)

    @rule(worker=st.integers(0, 1))
    def roll_back(self, worker: int) -> None:
        if len(self.promoted) == 1:
            with pytest.raises(BundleNotFound):
                self.run(self.workers[worker].bundles.rollback)
        else:
            self.promoted.pop()
            assert self.run(self.workers[worker].bundles.rollback) == self.promoted[-1]

    @rule(
        worker=st.integers(0, 1),
        role=st.sampled_from(ROLES),
        version=st.sampled_from(VERSIONS),
        share=st.sampled_from([0.1, 0.5, 1.0]),
    )
    def start_rollout(self, worker: int, role: Role, version: str, share: float) -> None:
        self.run(self.workers[worker].bundles.start_rollout, role, version, share)
        self.rollouts[role] = Rollout(version, share)

    @rule(worker=st.integers(0, 1), role=st.sampled_from(ROLES))
    def stop_a_rollout(self, worker: int, role: Role) -> None:
        rollout = self.rollouts[role]
        self.run(
            self.workers[worker].bundles.start_rollout, role, rollout.version if rollout else VERSIONS[0], 0.0
        )
        self.rollouts[role] = None

    @rule(worker=st.integers(0, 1), role=st.sampled_from(ROLES))
    def try_a_bad_one(self, worker: int, role: Role) -> None:
        bundles = self.workers[worker].bundles
        with pytest.raises(BundleError):
            self.run(bundles.start_rollout, role, BAD, 0.5)
        with pytest.raises(BundleError):
            self.run(bundles.activate, BAD)

    @rule(worker=st.integers(0, 1))
    def restart(self, worker: int) -> None:
        self.workers[worker] = Worker(self.folder)
        self.run(self.workers[worker].bundles.start)

    @invariant()
    def workers_that_have_looked_agree_with_the_folder(self) -> None:
        for worker in self.workers:
            self.run(worker.bundles.follow)
            serving = worker.serving.get()
            assert serving.active.manifest.version == self.promoted[-1]
            for role in ROLES:
                loaded, wanted = getattr(serving, role), self.rollouts[role]
                dormant = wanted is not None and wanted.version == self.promoted[-1]
                assert rollout_of(loaded) == (None if dormant else wanted)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


Histories.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
TestHistories = Histories.TestCase
