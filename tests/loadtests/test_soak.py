"""The soak run for seconds instead of half an hour, and the line it draws."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadtests.load.open_loop import Run
from loadtests.soak import Memory, Requests, course, slope_per_h
from tests.conftest import ROOT
from tests.service import tiny_bundle


def test_it_prints_the_rate_the_slopes_and_the_drift(tmp_path: Path) -> None:
    bundle = tiny_bundle.write(tmp_path / tiny_bundle.FIRST)
    asked = ("--minutes", "0.08", "--share", "0.3", "--bundle", str(bundle))
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.soak", *asked], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["figures"]
    assert "200" in found["statuses"]
    assert set(found["statuses"]) <= {"200", "429", "503"}  # a busy machine is late, not wrong
    assert found["requests"] == pytest.approx(0.3 * found["capacity_requests_per_s"] * 4.8, abs=2)
    assert isinstance(found["rss_slope_mib_per_h"], float)
    assert isinstance(found["store_rss_slope_mib_per_h"], float)
    assert found["rerank_p50_ms"]["second_half"] > 0


def test_a_leak_has_a_slope_and_a_warm_up_has_none() -> None:
    at_s = [float(s) for s in range(0, 1000, 10)]
    memory = Memory(at_s, [100 + max(50 - s, 0) for s in at_s], [10 + s / 3600 for s in at_s])
    #              label, slate (warming up), label, slate, label, slate, label, slate refused
    due_s = np.array([5.0, 10.0, 299.0, 300.0, 699.0, 700.0, 799.0, 800.0])
    took_s = np.array([9.0, 1.0, 9.0, 0.002, 9.0, 0.004, 9.0, 9.0])
    status = np.array([200, 200, 200, 200, 200, 200, 200, 429])
    found = course(Run(due_s, took_s, np.zeros(8), np.zeros(8), status), memory, 1000.0)
    assert found["rss_slope_mib_per_h"] == 0.0
    assert found["store_rss_slope_mib_per_h"] == 1.0
    assert found["rerank_p50_ms"] == {"first_half": 2.0, "second_half": 4.0}
    assert found["rerank_p50_drift"] == 1.0
    assert found["statuses"] == {"200": 7, "429": 1}


def test_two_points_are_no_line() -> None:
    assert slope_per_h(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None


def test_no_event_is_sent_twice_and_users_stay_the_same() -> None:
    requests = [*Requests(0, 500), *Requests(500, 500)]
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests]
    events = [body["event_id"] for body in bodies if "event_id" in body]
    assert len(set(events)) == len(events) == 500
    assert len({body["user_id"] for body in bodies}) == 200
