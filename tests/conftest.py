"""What many tests need and is slow to make: a small simulated log, one run of the smoke recipe, its bundle.

They are made once per session, also where pytest-xdist runs it in several processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from tests.service.stores import debian, embedded

ROOT = Path(__file__).parents[1]

# How long an example takes depends on how busy the machine is, not on whether anything is wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SYNTHETIC = {"users": 150, "videos": 300, "exposures": 12_000}
"""Size of the simulated log: the smoke recipe takes seconds on it."""


LONGEST = ("tests/training", "tests/test_readme.py", "tests/loadtests", "tests/parity")
"""Begun first, so that no process waits for one of these at the end."""


LONGEST_ID = 100
"""Characters of a parameter in the name of a test."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a module that fits or exports in one process: each would make its fixtures again."""

    def rank(item: pytest.Item) -> int:
        places = (i for i, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(places, len(LONGEST))

    items.sort(key=rank)
    for item in items:
        module = item.nodeid.partition("::")[0]
        if module.startswith(("tests/training/", "tests/parity/")) and not item.get_closest_marker(
            "xdist_group"
        ):
            item.add_marker(pytest.mark.xdist_group(module))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name long values by their argument: processes get the name of the test in their environment."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_ID else None


def cli(
    *arguments: str | Path, program: str = "training", cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run `python -m training …` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=280,
    )


def cli_ok(*arguments: str | Path) -> str:
    """Return the standard output of a command that must succeed, run in a process of its own."""
    result = cli(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m training …` in this process."""
    from training.__main__ import main

    argv = [str(ROOT / "training" / "__main__.py"), *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")  # as in a process of its own
        try:
            main()
        except SystemExit as e:
            code = int(e.code or 0)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def run_ok(*arguments: str | Path) -> str:
    """Return the standard output of a command that must succeed, run in this process."""
    result = run_command(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def once_per_session(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return a path that `build` has filled, in whichever process of the session asked first."""
    base = factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    path = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            build(path)
    return path


@pytest.fixture(scope="session")
def synthetic_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA of the simulated log."""

    def build(out: Path) -> None:
        config = out.with_suffix(".json")
        config.write_text(json.dumps(SYNTHETIC))
        run_ok("prepare", "--dataset", "synthetic", "--source", config, "--out", out, "--seed", "1")

    return once_per_session(tmp_path_factory, "synthetic", build)


@pytest.fixture(scope="session")
def smoke_run(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the smoke recipe."""

    def build(out: Path) -> None:
        run_ok("fit", "smoke", "--data", synthetic_data, "--out", out, "--threads", "1")

    return once_per_session(tmp_path_factory, "smoke", build)


@pytest.fixture(scope="session")
def smoke_bundles(smoke_run: Path, synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of versions whose one version is that run's, promoted."""

    def build(root: Path) -> None:
        note = root.with_suffix(".json")
        staging = root.with_name("staging-bundles")
        run_ok(
            "export",
            smoke_run,
            "--to",
            staging,
            "--data",
            synthetic_data,
            "--json",
            note,
            "--allow-unlearned",
        )
        run_ok("promote", json.loads(note.read_text())["version"], "--bundles", staging)
        staging.rename(root)

    return once_per_session(tmp_path_factory, "bundles", build)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of coroutine tests."""
    return "asyncio"


@pytest.fixture(scope="session")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey that all tests of a worker share; each uses keys of its own or empties it first."""
    with embedded(tmp_path_factory.mktemp("embedded")) as url:
        yield url


@pytest.fixture(scope="session")
def debian_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A redis-server of the system, shared likewise."""
    with debian(tmp_path_factory.mktemp("debian")) as url:
        yield url


@pytest.fixture(scope="session", params=["embedded", "debian"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Each of the two servers."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
