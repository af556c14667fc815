"""Rules of the house that no linter knows: what lies where, how long a file may be, what a door shows."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from models.manifest import Manifest
from models.store import BundleStore
from tests.architecture.repository import PACKAGES, ROOT, sources, tracked

TOP_LEVEL = {
    "service", "training", "models", "docker", "tests", "loadtests", "pyproject.toml", "README.md",
    "Makefile", "LICENSE", "NOTICE", "CHANGELOG.md", "SECURITY.md", ".ci", ".gitignore",
}  # fmt: skip

LONGEST = 400
"""Lines of a file that need no excuse."""
EXCUSE = "This file is long because"

MEBIBYTE = 2**20


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# --- the top level


def test_the_top_level_is_what_was_agreed_on() -> None:
    """`docker/` and `loadtests/` may still be empty, and git tracks no empty folder."""
    found = {path.parts[0] for path in tracked()}
    assert TOP_LEVEL - {"docker", "loadtests"} <= found <= TOP_LEVEL


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in sources(*PACKAGES, "tests")}
    assert not {str(f) for f in folders if not (ROOT / f / "__init__.py").exists()}


def test_no_tracked_file_is_what_a_run_leaves_behind() -> None:
    left = re.compile(r"(\.pyc|\.rdb|\.aof|\.sock|\.log|\.csv|\.parquet|\.tar\.gz|\.pt|\.draft)$")
    assert not [str(path) for path in tracked() if left.search(path.name)]


# --- files


def test_a_long_file_explains_itself() -> None:
    """Over 400 lines a file splits, or its docstring holds `EXCUSE` and a reason."""
    unexplained = []
    for path in sources(*PACKAGES, "tests", "loadtests"):
        text = (ROOT / path).read_text()
        if text.count("\n") > LONGEST and EXCUSE not in (ast.get_docstring(ast.parse(text)) or ""):
            unexplained.append(f"{path}: {text.count(chr(10))} lines")
    assert not unexplained


def test_every_module_says_what_it_is() -> None:
    silent = []
    for path in sources(*PACKAGES, "loadtests"):
        text = (ROOT / path).read_text()
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            silent.append(str(path))
    assert not silent


def test_no_file_names_the_machine_it_was_written_on() -> None:
    """Paths of a developer's machine, and of data that only lies beside a developer's checkout. An image
    has paths of its own, so `docker/` is left out."""
    machine = re.compile(r"(?<![\w.])/(work|root)\b|\bshared/")
    found = []
    for path in tracked():
        if path.parts[0] in ("tests", "docker", "Makefile") or path.suffix in (".onnx", ".png"):
            continue
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), 1):
            if machine.search(line) and not line.strip().startswith('"real_data: '):
                found.append(f"{path}:{number}: {line.strip()}")
    assert not found


def test_nothing_is_left_for_later() -> None:
    unfinished = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")
    blanket = re.compile(r"# noqa\s*$|# type: ignore\s*$|# (ruff|mypy): (noqa|ignore-errors)")
    found = []
    for path in sources(*PACKAGES, "loadtests"):
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            if unfinished.search(line) or blanket.search(line):
                found.append(f"{path}:{number}: {line.strip()}")
    assert not found


# --- doors


def doors() -> list[str]:
    """Packages that have private modules, and so need a door."""
    private = {path.parent for path in sources(*PACKAGES) if re.match(r"_[a-z]", path.name)}
    return sorted(module_name(folder / "__init__.py") for folder in private)


def public_names(module: ModuleType) -> set[str]:
    """Names that an import of the module provides, besides modules."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }


def test_there_are_doors() -> None:
    assert {"models.metrics", "training.data"} <= set(doors())


def test_every_door_lists_exactly_what_can_be_imported_from_it() -> None:
    wrong = {}
    for name in doors():
        module = importlib.import_module(name)
        listed = getattr(module, "__all__", [])
        if sorted(set(listed)) != sorted(listed) or set(listed) != public_names(module):
            wrong[name] = sorted(set(listed) ^ public_names(module)) or "listed twice"
    assert not wrong


def test_nobody_goes_round_a_door() -> None:
    """A module with an underscore is imported by its own package only."""
    intruders = []
    for path in sources(*PACKAGES, "loadtests"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                home, _, _ = node.module.partition("._")
                inside = module_name(path.parent / "__init__.py")
                if home != node.module and not f"{inside}.".startswith(f"{home}."):
                    intruders.append(f"{path}:{node.lineno}: {node.module}")
    assert not intruders


# --- pyproject.toml


def project() -> dict[str, list[str]]:
    """Requirements by extra; the ones without an extra under the empty name."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": content["dependencies"], **content["optional-dependencies"]}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", r, maxsplit=1)[0].lower() for r in requirements}


def test_cpu_and_gpu_are_alternatives() -> None:
    """Both install the same module: together, one overwrites the other."""
    needs = {extra: names(requirements) for extra, requirements in project().items()}
    assert needs["cpu"] == {"onnxruntime"}
    assert needs["gpu"] == {"onnxruntime-gpu"}
    others = set().union(*(n for extra, n in needs.items() if extra not in ("cpu", "gpu")))
    assert not {n for n in others if n.startswith("onnxruntime")}
    versions = [r.removeprefix(n) for extra, n in (("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu"))
                for r in project()[extra]]  # fmt: skip
    assert len(set(versions)) == 1


def test_serving_installs_no_training_stack() -> None:
    training = {"torch", "onnx", "onnxscript", "polars", "pandas", "scipy", "matplotlib", "pytest"}
    assert not names(project()[""] + project()["cpu"] + project()["gpu"]) & training
    assert {"torch", "onnx", "onnxscript", "polars"} <= names(project()["train"])


def test_torch_is_pinned() -> None:
    assert [r for r in project()["train"] if r.startswith("torch==")]


# --- the released bundle


def test_the_released_bundle_is_whole_small_and_active() -> None:
    bundles = ROOT / "models" / "bundles"
    released = [path for path in tracked() if path.is_relative_to(bundles.relative_to(ROOT))]
    if not released:
        pytest.skip("no bundle is committed yet")
    store = BundleStore(bundles)
    manifest = Manifest.read(store.path(store.current()))
    assert sum((ROOT / path).stat().st_size for path in released) <= 12 * MEBIBYTE
    assert manifest.evaluation is not None
    assert manifest.training.watermark_ms >= manifest.evaluation.fitted_before_ms
