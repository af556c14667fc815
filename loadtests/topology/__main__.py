"""`python -m loadtests.topology`: from the Dockerfiles to a deployment that was broken and mended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Final

import httpx2
import typer

from loadtests.machine import stamp
from loadtests.topology import images, pages
from loadtests.topology.compose import Topology
from loadtests.topology.drills import DRILLS
from loadtests.topology.images import SERVICE, TRAINING, Starved, StepFailed
from loadtests.topology.watching import watched

ATTEMPTS: Final = 3
"""Of a drill whose load was refused because the machine had no time for it; the report says how many."""


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the figures go, as JSON.")] = None,
    only: Annotated[str, typer.Option(help="Of the drills, those whose name has this in it.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    training: Annotated[bool, typer.Option(help="Build the image of training too.")] = True,
    write: Annotated[bool, typer.Option("--write", help="Put the figures into docker/README.md.")] = False,
) -> None:
    """Build the images, start the topology, break it, mend it, and look at it through Prometheus.

    `DOCKER_BASE` names a program that makes base images of Debian packages, where no registry can be reached;
    `WHEELS` a folder with the wheel of torch. Exit code 1 if anything is not as it has to be.
    """
    began, since = time.monotonic(), time.time()
    steps: list[dict[str, Any]] = []

    def step(name: str, do: Callable[[], dict[str, Any]]) -> None:
        print(f"topology: {name}", file=sys.stderr, flush=True)
        before = time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                found = do()
                break
            except Starved as e:
                print(f"topology:   {e}", file=sys.stderr, flush=True)
                if attempt == ATTEMPTS:
                    raise
            except (StepFailed, TimeoutError, httpx2.HTTPError) as e:
                raise StepFailed(f"{name}: {e}") from e
        if attempt > 1:
            found["attempts"] = attempt
        steps.append({"name": name, "found": found, "took_s": round(time.monotonic() - before, 1)})
        print(f"topology:   {json.dumps(found)}", file=sys.stderr, flush=True)

    try:
        maker = images.maker()
        if maker:
            images.made(maker, images.PYTHON, images.PYTHON_PACKAGES)
        elif not images.registry_reached():
            raise StepFailed("no image registry can be reached; name a program with DOCKER_BASE")
        revision = stamp("")["commit"]
        with ThreadPoolExecutor(1) as aside:  # mostly downloads, as the builds are
            standing_in = aside.submit(images.stand_in, maker) if maker else None
            step("image of the service", lambda: _service(revision))
            if training:
                step("image of training", lambda: _training(revision))
        named = standing_in.result() if standing_in else {}
        with Topology(named, grafana=not maker, keep=keep) as topology:
            for name, drill in DRILLS.items():
                if only in name or name == "started":
                    step(name, lambda drill=drill: drill(topology))  # type: ignore[misc]
            if not only:
                step("seen by Prometheus", lambda: watched(topology, since))
    except StepFailed as e:
        print(f"topology: {e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    report = stamp("make docker-test") | {
        "engine": _engine(),
        "base_images": "Debian's packages, without Grafana" if maker else "official ones",
        "seconds": round(time.monotonic() - began),
        "steps": steps,
        "commands": pages.commands(),
    }
    print(pages.deployment(report))
    if json_file is not None and not only and training:
        json_file.write_text(json.dumps(report, indent=1) + "\n")
    if write and not only and training:
        pages.README.write_text(pages.written(pages.README.read_text(), report))


def _service(revision: str) -> dict[str, Any]:
    images.build("service", SERVICE, REVISION=revision)
    found = images.looked_into(SERVICE)
    if found["size_mb"] > images.LARGEST_MB:
        raise StepFailed(f"it has {found['size_mb']} MB, allowed are {images.LARGEST_MB}")
    return found


def _training(revision: str) -> dict[str, Any]:
    images.build("training", TRAINING, images.wheels_at(os.environ.get("WHEELS")), REVISION=revision)
    found = images.looked_into(TRAINING)
    said = images.inside(
        TRAINING,
        *(
            "sh",
            "-c",
            "python -m training prepare --dataset synthetic --out /tmp/log --seed 1 && ls /tmp/log",
        ),
    )
    if "interactions.parquet" not in said:
        raise StepFailed(f"it cannot prepare a log: {said[-500:]}")
    return found | {"prepares_a_log": True}


def _engine() -> str:
    engine = images.docker("version", "--format", "Docker {{.Server.Version}}").strip()
    for compose in (("docker", "compose", "version", "--short"), ("docker-compose", "version", "--short")):
        if shutil.which(compose[0]):
            done = subprocess.run(compose, capture_output=True, text=True, check=False)
            if not done.returncode:
                return f"{engine}, Compose {done.stdout.strip()}"
    return engine


if __name__ == "__main__":
    # Whoever asks us to end wants what we started to end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    typer.run(main)
