"""docker/README.md has the figures of `make docker-test`, and no command that was not run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from loadtests.topology.__main__ import update_readme
from loadtests.topology.compose import readme_commands
from loadtests.topology.drills import DRILLS
from loadtests.topology.images import LARGEST_MB, SERVICE, inspect_image
from tests.conftest import ROOT
from tests.docker.files import DOCKER

README = (DOCKER / "README.md").read_text()
BY_HAND = {"up"}
"""Blocks that the run replaces, because it may have no Compose v2 and no registry."""


def report() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DOCKER / "deployment.json").read_text())
    return content


def test_the_figures_are_those_of_the_committed_report() -> None:
    assert update_readme(README, report()) == README


def test_the_report_is_of_a_whole_run_that_lost_nothing() -> None:
    steps = {step["name"]: step["found"] for step in report()["steps"]}
    assert set(steps) >= {*DRILLS, "image of the service", "image of training", "seen by Prometheus"}
    assert steps["image of the service"]["size_mb"] <= LARGEST_MB
    assert all(found.get("lost", 0) == 0 and not found.get("failed") for found in steps.values())
    assert steps["seen by Prometheus"]["targets_up"]["service"] == 2
    assert report()["seconds"] < 15 * 60


def test_the_commands_of_the_pages_are_those_that_were_run() -> None:
    assert report()["commands"] == readme_commands(), "run `make docker-test` again"
    drills = (ROOT / "loadtests" / "topology" / "drills.py").read_text()
    for name in set(readme_commands()) - BY_HAND:
        assert f'"{name}"' in drills, f"nothing runs {name}"


@pytest.mark.parametrize("page", ["Upgrade", "Rollback", "Backup", "Restore", "Key rotation", "Capacity"])
def test_there_is_a_page_with_commands(page: str) -> None:
    found = re.search(rf"^## {page}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    assert "```sh " in found[1]


@pytest.mark.parametrize("name", readme_commands())
def test_the_commands_are_shell(name: str) -> None:
    done = subprocess.run(["bash", "-n"], input=readme_commands()[name], text=True, check=False)
    assert done.returncode == 0


def test_every_file_that_is_named_exists() -> None:
    table = re.search(r"^\| `service\.Dockerfile`.*?\n\n", README, re.MULTILINE | re.DOTALL)
    assert table is not None
    for row in table[0].strip().splitlines():
        for name in re.findall(r"`([^`]+)`", row.split("|")[1]):
            assert (DOCKER / name).exists(), name


@pytest.mark.slow
def test_compose_itself_finds_nothing_wrong() -> None:
    """Where there is one, v2 or 1.29."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True).returncode
        ):
            break
    else:
        pytest.skip("no Compose here")
    done = subprocess.run(
        [*command, "-f", "docker/compose.yaml", "config", "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_the_image_can_be_looked_into_where_it_is() -> None:
    """The heavy part is `make docker-test`; this only looks at an image that it has left behind."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker that runs here; `make docker-test` is the whole of it")
    if subprocess.run(["docker", "image", "inspect", SERVICE], capture_output=True).returncode:
        pytest.skip("no image yet; `make docker-test` builds it")
    assert inspect_image(SERVICE)["size_mb"] <= LARGEST_MB
