"""The GPU command on a CPU: it runs, and never reports figures of a CPU as those of a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime as ort
import pytest
from typer.testing import CliRunner

from loadtests.gpu import SLATES, app
from models.runtime import CUDA

pytestmark = pytest.mark.slow


def test_a_report_of_a_cpu_has_no_gpu(version: Path, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = ["--cpu-only", "--seconds", "0.05", "--bundle", str(version), "--json", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    report = json.loads(out.read_text())
    assert report == json.loads(done.stdout)
    assert report["gpu"] is None
    assert "cuda" not in report["figures"]
    assert set(report["figures"]["cpu"]) == {str(slates) for slates in SLATES}
    for figures in report["figures"]["cpu"].values():
        assert figures["runs"] >= 1
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this onnxruntime knows a GPU")
def test_without_a_gpu_it_is_an_error_with_the_remedy(version: Path) -> None:
    done = CliRunner().invoke(app, ["--bundle", str(version)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "`cuda`" in done.stderr
    assert "--cpu-only" in done.stderr
