"""The soak run for seconds instead of half an hour, and the line it draws."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadtests.faults.client import Answer
from loadtests.soak import Course, slope_per_h
from tests.conftest import ROOT
from tests.service import tiny_bundle


def test_it_prints_the_rate_the_slopes_and_the_drift(tmp_path: Path) -> None:
    bundle = tiny_bundle.write(tmp_path / tiny_bundle.FIRST)
    asked = ("--minutes", "0.08", "--share", "0.3", "--bundle", str(bundle))
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.soak", *asked], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    figures = report["figures"]
    assert set(figures["answers"]) == {"200"}
    assert figures["rate_requests_per_s"] == pytest.approx(0.3 * figures["capacity_requests_per_s"], abs=0.1)
    assert figures["sent"] == pytest.approx(figures["rate_requests_per_s"] * 4.8, abs=2)
    assert isinstance(figures["rss_slope_mib_per_h"], float)
    assert figures["rerank_p50_ms"]["second_half"] > 0


def test_a_leak_has_a_slope_and_a_warm_up_has_none() -> None:
    course = Course(memory=[(s, 100.0 + max(50.0 - s, 0), 10.0 + s / 3600) for s in range(0, 1000, 10)])
    course.note(Answer("/rerank", 700.0, 0.004, "200", {}), 0.0)
    course.note(Answer("/rerank", 300.0, 0.002, "200", {}), 0.0)
    course.note(Answer("/rerank", 10.0, 1.0, "200", {}), 0.0)
    course.note(Answer("/rerank", 800.0, 9.0, "503", {}), 0.0)
    figures = course.figures(1000.0)
    assert figures["rss_slope_mib_per_h"] == 0.0
    assert figures["store_rss_slope_mib_per_h"] == 1.0
    assert figures["rerank_p50_drift"] == 1.0  # 2 ms before, 4 ms after the middle of what counts
    assert figures["answers"] == {"200": 3, "503": 1}


def test_two_points_are_no_line() -> None:
    assert slope_per_h(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
