"""What many tests need and is slow to make: a small world, one run of the smoke recipe, its bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.service.stores import debian, embedded

ROOT = Path(__file__).parents[1]

# How long an example takes says how busy the machine is, not whether anything is wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def cli(
    *arguments: str | Path, program: str = "training", cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """`python -m training …`, as somebody types it."""
    return subprocess.run(
        [sys.executable, "-m", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=280,
    )


def done(*arguments: str | Path) -> str:
    """Standard output of a command that must succeed."""
    result = cli(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def synthetic_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA of the synthetic world."""
    out = tmp_path_factory.mktemp("data") / "synthetic"
    done("prepare", "--dataset", "synthetic", "--out", out, "--seed", "1")
    return out


@pytest.fixture(scope="session")
def smoke_run(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the smoke recipe."""
    out = tmp_path_factory.mktemp("run") / "smoke"
    done("fit", "smoke", "--data", synthetic_data, "--out", out, "--threads", "1")
    return out


@pytest.fixture(scope="session")
def smoke_bundles(smoke_run: Path, synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of versions whose one version is that run's, promoted."""
    root = tmp_path_factory.mktemp("bundles")
    note = root.parent / f"{root.name}.json"
    done("export", smoke_run, "--to", root, "--data", synthetic_data, "--json", note)
    done("promote", json.loads(note.read_text())["version"], "--bundles", root)
    return root


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
