"""Images: had from a registry or made of Debian's packages, built of the tracked files, and looked into."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
WHEELS: Final = "docker/wheels"

LARGEST_MB: Final = 400
"""The service's image on CPU, in 10^6 bytes, as `docker image ls` counts."""

SERVICE: Final = "reelrank:latest"
TRAINING: Final = "reelrank-training:latest"

PYTHON: Final = "python:3.11-slim-bookworm"
STAND_IN: Final = "reelrank-stand-in"
PYTHON_PACKAGES: Final = ("python3", "python3-venv")
STAND_IN_PACKAGES: Final = ("redis-server", "haproxy", "prometheus", "prometheus-redis-exporter")
"""What local images are made of, where no registry can be reached."""

STANDING_IN: Final = {
    "REDIS_IMAGE": STAND_IN,
    "PROXY_IMAGE": STAND_IN,
    "PROMETHEUS_IMAGE": STAND_IN,
    "REDIS_EXPORTER_IMAGE": STAND_IN,
    "REDIS_EXPORTER": "prometheus-redis-exporter",
}
"""Of compose.yaml, in place of the official images."""

_FORBIDDEN: Final = ("pip", "gcc", "cc", "make", "uv", "git")


class StepFailed(Exception):
    """What was looked for is not so. The message says what was found."""


class Starved(StepFailed):
    """Requests were refused, and refused again a second later, by replicas that had no time, or whose store
    had none: this says nothing of the drill, but that the machine did other things."""


def docker(*arguments: str, stdin: bytes | None = None, limit_s: float = 600) -> str:
    """One call of docker.

    Raises:
        StepFailed: it failed; with its last words.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments], input=stdin, capture_output=True, timeout=limit_s, check=False
        )
    except FileNotFoundError:
        raise StepFailed("there is no docker here") from None
    except subprocess.TimeoutExpired:
        raise StepFailed(f"docker {' '.join(arguments[:3])} took more than {limit_s:g} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise StepFailed(f"docker {' '.join(arguments)}: {said[-2000:]}")
    return done.stdout.decode()


def made(maker: str, image: str, packages: Sequence[str]) -> None:
    """A local image of Debian packages.

    Args:
        maker: a program that makes one: `maker IMAGE PACKAGE…`.
        image: its name; nothing happens if it is there.
        packages: of Debian.
    """
    done = subprocess.run([maker, image, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepFailed(f"{maker} {image}: {(done.stdout + done.stderr).strip()[-1000:]}")


def stand_in(maker: str) -> Mapping[str, str]:
    """The store, the proxy, Prometheus and the exporter out of Debian's packages, in one image.

    Returns:
        What compose.yaml has to be told.
    """
    made(maker, f"{STAND_IN}:packages", STAND_IN_PACKAGES)
    docker(
        *("build", "-q", "-f", str(ROOT / "docker/stand-in.Dockerfile"), "-t", STAND_IN),
        *("--build-arg", f"BASE={STAND_IN}:packages", str(ROOT / "docker/proxy")),
    )
    return STANDING_IN


def build(name: str, tag: str, wheels: Sequence[Path] = (), **arguments: str) -> None:
    """Build `docker/NAME.Dockerfile` of what git tracks, as it is on the disk.

    Args:
        name: of the Dockerfile.
        tag: of the image.
        wheels: laid into the context, for what pip cannot reach.
        arguments: of the build.
    """
    given = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    docker(
        *("build", "-q", "-f", f"docker/{name}.Dockerfile", "-t", tag, *given, "-"),
        stdin=_context(wheels),
        limit_s=1200,
    )


def looked_into(tag: str) -> dict[str, Any]:
    """Size, user, labels, and what is in it; and that what must not be in it is not.

    Raises:
        StepFailed: it runs as root, brings tools that build, or has no list of what it holds.
    """
    (found,) = json.loads(docker("image", "inspect", tag))
    user = found["Config"]["User"]
    labels = found["Config"]["Labels"]
    if user.partition(":")[0] in ("", "0", "root"):
        raise StepFailed(f"{tag} runs as {user or 'root'}")
    missing = {"title", "version", "revision", "licenses"} - {
        label.removeprefix("org.opencontainers.image.") for label in labels
    }
    if missing:
        raise StepFailed(f"{tag} has no label {sorted(missing)}")
    tools = inside(tag, "sh", "-c", f"command -v {' '.join(_FORBIDDEN)} || true").split()
    pip = inside(tag, "sh", "-c", "for p in python python3; do $p -m pip --version 2>/dev/null || true; done")
    if tools or pip:
        raise StepFailed(f"{tag} holds {tools or pip}")
    bill = json.loads(inside(tag, "cat", "/opt/reelrank/sbom.cdx.json"))
    return {
        "size_mb": round(found["Size"] / 1e6),
        "user": user,
        "packages_in_the_sbom": len(bill["components"]),
    }


def inside(tag: str, program: str, *arguments: str) -> str:
    """Output of a program of the image, on a read-only root."""
    return docker(
        *("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--entrypoint", program),
        *(tag, *arguments),
    )


def _context(wheels: Sequence[Path]) -> bytes:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).exists():
                tar.add(ROOT / name, name)
        for wheel in wheels:
            tar.add(wheel, f"{WHEELS}/{wheel.name}")
    return packed.getvalue()


def wheels_at(folder: str | None) -> list[Path]:
    """The wheels in a folder; none without one."""
    return sorted(Path(folder).glob("*.whl")) if folder else []


def registry_reached(image: str = PYTHON) -> bool:
    """Whether a base image is here, or can be had."""
    for command in (("image", "inspect", image), ("pull", "-q", image)):
        try:
            docker(*command, limit_s=300)
        except StepFailed:
            continue
        return True
    return False


def maker() -> str | None:
    """The program that makes base images here, from `DOCKER_BASE`."""
    return os.environ.get("DOCKER_BASE") or None
