"""Bundles that change under load: promoted, spoilt, rolled back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import httpx2

from loadtests.faults.report import Row, spread
from loadtests.faults.stage import FIRST, SECOND, Scenario, Stage
from models.store import BundleStore

BROKEN: Final = "20260103-00000003"
WAIT_S: Final = 20.0
REFUSED: Final = 'reelrank_bundle_reloads_total{outcome="failed"} '


def _promoted(name: str, stage: Stage) -> Row:
    """There and back, several times: no request may notice."""
    took = []
    store = BundleStore(stage.bundles)
    with stage.http() as http, stage.load() as load:

        def promote() -> None:
            for number in range(2 * stage.pace.times):
                version = FIRST if number % 2 else SECOND
                started = time.monotonic()
                store.promote(version)
                _until(partial(_serves, http, version))
                took.append(time.monotonic() - started)

        load.during(promote)
    return stage.row(name, load, swaps=len(took), swapped_ms=spread(took))


def _spoilt(name: str, stage: Stage) -> Row:
    """A version whose graph is cut short becomes `CURRENT`: the one before must go on."""
    shutil.copytree(stage.bundles / SECOND, stage.bundles / BROKEN)
    manifest = stage.bundles / BROKEN / "manifest.json"
    manifest.write_text(manifest.read_text().replace(SECOND, BROKEN))
    graph = stage.bundles / BROKEN / "ranker.onnx"
    graph.write_bytes(graph.read_bytes()[:-20])
    kept = []
    with stage.http() as http, stage.load() as load:
        refused = _refusals(http)

        def spoil() -> None:
            (stage.bundles / "CURRENT").write_text(f"{BROKEN}\n")
            _until(lambda: _refusals(http) > refused)
            kept.append(_serves(http, FIRST))

        try:
            load.during(spoil, lambda: BundleStore(stage.bundles).promote(FIRST))
        finally:
            (stage.bundles / "CURRENT").write_text(f"{FIRST}\n")
            shutil.rmtree(stage.bundles / BROKEN)
    return stage.row(name, load, old_version_kept=kept[0])


def _rolled_back(name: str, stage: Stage) -> Row:
    """Activate and roll back by request; a restart must not bring the later version back."""
    took = []
    with stage.http() as http, stage.load() as load:

        def roll_back() -> None:
            for _ in range(stage.pace.times):
                http.post(f"/v1/models/{SECOND}:activate").raise_for_status()
                started = time.monotonic()
                reply = http.post("/v1/models:rollback").raise_for_status()
                took.append(time.monotonic() - started)
                assert reply.json()["model_version"] == FIRST

        load.during(roll_back)
    events = stage.check(load)
    stage.program.terminate()
    stage.program.start()
    with stage.http() as http:
        survived = _serves(http, FIRST)
    return stage.row(name, load, events, rolled_back_ms=spread(took), survives_a_restart=survived)


def _serves(http: httpx2.Client, version: str) -> bool:
    return bool(http.get("/health/ready").json().get("model_version") == version)


def _refusals(http: httpx2.Client) -> float:
    lines = http.get("/metrics").text.splitlines()
    return next((float(line.removeprefix(REFUSED)) for line in lines if line.startswith(REFUSED)), 0.0)


def _until(holds: Callable[[], bool]) -> None:
    """Wait until it holds.

    Raises:
        TimeoutError: it does not come to that.
    """
    end = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"the service did not take notice within {WAIT_S:g} s")
        time.sleep(0.02)


SCENARIOS: Final[dict[str, Scenario]] = {
    "bundle promoted": _promoted,
    "bad bundle promoted": _spoilt,
    "bundle rolled back": _rolled_back,
}
