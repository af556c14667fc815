"""`python -m service`: help, version, and missing extras, each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from service import package_version

pytestmark = pytest.mark.slow

RUN = """
import runpy, sys
sys.modules.update(dict.fromkeys({missing!r}))
sys.argv = ["service", *{args!r}]
try:
    runpy.run_module("service", run_name="__main__")
finally:
    print(sorted({{"fastapi", "numpy", "onnxruntime", "pydantic", "redis", "uvicorn"}} & {{*sys.modules}}))
"""


def run(*args: str, missing: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command in an interpreter that cannot import some packages; last, its heavy imports are printed."""
    code = RUN.format(args=args, missing=missing)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("option", "text"), [("--version", package_version()), ("--help", "serve")])
def test_help_and_version_import_nothing_heavy(option: str, text: str) -> None:
    done = run(option)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
    assert text in done.stdout


@pytest.mark.parametrize(
    ("package", "extra"), [("onnxruntime", "reelrank[cpu]"), ("opentelemetry", "reelrank[tracing]")]
)
def test_a_missing_extra_is_one_line_with_its_name(
    package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELRANK_TRACING", "otlp")
    done = run("serve", "--port", "0", missing=(package,))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("reelrank: ")
    assert package in line
    assert extra in line


def test_kafka_without_its_extra_is_one_line_with_its_name() -> None:
    source = ("--source", "kafka://localhost:1/events", "--store", "redis://localhost:1")
    done = run("consume", *source, missing=("confluent_kafka",))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("reelrank: confluent_kafka")
    assert "reelrank[kafka]" in line
