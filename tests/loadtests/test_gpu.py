"""The script for a GPU, on a CPU: that it runs, and never passes a CPU's figures off as a GPU's."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime as ort
import pytest
import typer
from typer.testing import CliRunner

from loadtests.gpu import CANDIDATES, SLATES, main
from models.runtime import CUDA
from tests.service import tiny_bundle

app = typer.Typer()
app.command()(main)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return tiny_bundle.write(tmp_path / tiny_bundle.FIRST)


def test_on_a_cpu_alone_it_says_that_it_is_of_no_gpu(version: Path, tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = ["--cpu-only", "--seconds", "0.05", "--bundle", str(version), "--json", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    report = json.loads(out.read_text())
    assert report == json.loads(done.stdout)
    assert report["gpu"] is None
    assert "cuda" not in report["figures"]
    assert set(report["figures"]["cpu"]) == {str(slates) for slates in SLATES}
    for slates, figures in report["figures"]["cpu"].items():
        assert figures["runs"] >= 1
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]
        assert figures["candidates_per_s"] * figures["p99_ms"] / 1e3 >= int(slates) * CANDIDATES * 0.5


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this onnxruntime knows a GPU")
def test_without_a_gpu_it_ends_and_says_what_to_do(version: Path) -> None:
    done = CliRunner().invoke(app, ["--bundle", str(version)])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "`cuda` was asked for" in done.stderr
    assert "--cpu-only" in done.stderr
