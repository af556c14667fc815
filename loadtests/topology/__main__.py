"""`python -m loadtests.topology`: build the images, start the compose topology, break it and repair it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import httpx2
import typer

from loadtests.command import JsonOption, log_progress, make_app, run, write_atomically, write_report
from loadtests.host import run_metadata
from loadtests.report import render_deployment, render_deployment_capacity, replace_block
from loadtests.topology import images
from loadtests.topology.compose import README, Topology, readme_commands
from loadtests.topology.drills import DRILLS
from loadtests.topology.images import SERVICE, TRAINING, HostTooBusy, StepFailed
from loadtests.topology.monitoring import check_monitoring

ATTEMPTS: Final = 3
"""Of a drill whose load was refused because the host was too busy; the report has their number."""


def main(
    json_file: JsonOption = None,
    only: Annotated[str, typer.Option(help="Drills whose name contains this.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    training: Annotated[bool, typer.Option(help="Build the image of training too.")] = True,
    write: Annotated[bool, typer.Option("--write", help="Put the figures into docker/README.md.")] = False,
) -> None:
    """Build the images, start the topology, run the drills, and check it through Prometheus.

    `DOCKER_BASE` names a program that makes base images of Debian packages where no registry can be reached;
    `WHEELS` a folder with torch's wheel. Exit code 1 if anything is not as it has to be.
    """
    start_s, since, steps = time.monotonic(), time.time(), list[dict[str, Any]]()
    base_program = os.environ.get("DOCKER_BASE") or None
    try:
        variables = build_images(steps, base_program, training=training)
        with Topology(variables, grafana=not base_program, keep=keep) as topology:
            for name, drill in DRILLS.items():
                if only in name or name == "started":
                    run_step(steps, name, partial(drill, topology))
            if not only:
                run_step(steps, "seen by Prometheus", partial(check_monitoring, topology, since))
    except StepFailed as e:
        log_progress("topology", str(e))
        sys.exit(1)
    complete = not only and training
    report = {
        "engine": _engine_version(),
        "base_images": "Debian's packages, without Grafana" if base_program else "official ones",
        "seconds": round(time.monotonic() - start_s),
        "steps": steps,
        "commands": readme_commands(),
    }
    report = write_report("make docker-test", report, json_file if complete else None)
    print(render_deployment(report))
    if write and complete:
        write_atomically(README, update_readme(README.read_text(), report))


def build_images(
    steps: list[dict[str, Any]], base_program: str | None, *, training: bool
) -> Mapping[str, str]:
    """Build and inspect the images; return the variables of compose.yaml that name other ones.

    Raises:
        StepFailed: an image is not as it has to be.
    """
    if base_program:
        images.make_base_image(base_program, images.PYTHON, images.PYTHON_PACKAGES)
    elif not images.registry_is_reachable():
        raise StepFailed("no image registry can be reached; name a program with DOCKER_BASE")
    revision = run_metadata("")["commit"]
    with ThreadPoolExecutor(1) as background:  # mostly downloads, as the builds are
        substitute = background.submit(images.make_substitute, base_program) if base_program else None
        run_step(steps, "image of the service", partial(_build_service, revision))
        if training:
            run_step(steps, "image of training", partial(_build_training, revision))
    return substitute.result() if substitute else {}


def update_readme(text: str, report: dict[str, Any]) -> str:
    """Return docker/README.md with the figures of a report."""
    text = replace_block(text, "deployment", render_deployment(report))
    return replace_block(text, "capacity", render_deployment_capacity(report))


def run_step(steps: list[dict[str, Any]], name: str, step: Callable[[], dict[str, Any]]) -> None:
    """Run a step, again where the host was too busy for it, and append what it found.

    Raises:
        StepFailed: the step failed.
    """
    log_progress("topology", name)
    start_s = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            figures = step()
            break
        except HostTooBusy as e:
            log_progress("topology", str(e))
            if attempt == ATTEMPTS:
                raise
        except (StepFailed, TimeoutError, httpx2.HTTPError) as e:
            raise StepFailed(f"{name}: {e}") from e
    figures |= {"attempts": attempt} if attempt > 1 else {}
    steps.append({"name": name, "found": figures, "took_s": round(time.monotonic() - start_s, 1)})
    log_progress("topology", f"  {json.dumps(figures)}")


def _build_service(revision: str) -> dict[str, Any]:
    images.build("service", SERVICE, REVISION=revision)
    figures = images.inspect_image(SERVICE)
    if figures["size_mb"] > images.LARGEST_MB:
        raise StepFailed(f"it has {figures['size_mb']} MB, allowed are {images.LARGEST_MB}")
    return figures


def _build_training(revision: str) -> dict[str, Any]:
    folder = os.environ.get("WHEELS")
    images.build(
        "training", TRAINING, sorted(Path(folder).glob("*.whl")) if folder else (), REVISION=revision
    )
    figures = images.inspect_image(TRAINING)
    command = "python -m training prepare --dataset synthetic --out /tmp/log --seed 1 && ls /tmp/log"
    output = images.run_in_image(TRAINING, "sh", "-c", command)
    if "interactions.parquet" not in output:
        raise StepFailed(f"it cannot prepare a log: {output[-500:]}")
    return figures | {"prepares_a_log": True}


def _engine_version() -> str:
    engine = images.docker("version", "--format", "Docker {{.Server.Version}}").strip()
    for compose in (("docker", "compose", "version", "--short"), ("docker-compose", "version", "--short")):
        if shutil.which(compose[0]):
            done = subprocess.run(compose, capture_output=True, text=True, check=False)
            if not done.returncode:
                return f"{engine}, Compose {done.stdout.strip()}"
    return engine


app = make_app("topology", main)

if __name__ == "__main__":
    run(app)
