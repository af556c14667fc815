"""Images: base images, builds from the tracked files, and inspection."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from loadtests.command import LoadtestError

ROOT: Final = Path(__file__).parents[2]
WHEELS: Final = "docker/wheels"

LARGEST_MB: Final = 400
"""The service's image on CPU, in 10^6 bytes, as `docker image ls` counts."""

SERVICE: Final = "reelrank:latest"
TRAINING: Final = "reelrank-training:latest"

PYTHON: Final = "python:3.11-slim-bookworm"
SUBSTITUTE: Final = "reelrank-stand-in"
PYTHON_PACKAGES: Final = ("python3", "python3-venv")
SUBSTITUTE_PACKAGES: Final = ("redis-server", "haproxy", "prometheus", "prometheus-redis-exporter")
"""Of local images, where no registry can be reached."""

SUBSTITUTE_VARIABLES: Final = {
    "REDIS_IMAGE": SUBSTITUTE,
    "PROXY_IMAGE": SUBSTITUTE,
    "PROMETHEUS_IMAGE": SUBSTITUTE,
    "REDIS_EXPORTER_IMAGE": SUBSTITUTE,
    "REDIS_EXPORTER": "prometheus-redis-exporter",
}

_FORBIDDEN: Final = ("pip", "gcc", "cc", "make", "uv", "git")


class StepFailed(LoadtestError):
    """A step whose outcome is wrong. The message says what was found."""


class HostTooBusy(StepFailed):
    """Requests were refused twice by replicas or a store without time: says nothing about the drill."""


def docker(*arguments: str, stdin: bytes | None = None, limit_s: float = 600) -> str:
    """Run docker and return its output.

    Raises:
        StepFailed: it failed; with the end of its output.
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
        output = (done.stdout + done.stderr).decode(errors="replace").strip()
        raise StepFailed(f"docker {' '.join(arguments)}: {output[-2000:]}")
    return done.stdout.decode()


def make_base_image(program: str, image: str, packages: Sequence[str]) -> None:
    """Make an image of Debian packages with `program IMAGE PACKAGE...`, unless it exists."""
    done = subprocess.run([program, image, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepFailed(f"{program} {image}: {(done.stdout + done.stderr).strip()[-1000:]}")


def make_substitute(program: str) -> Mapping[str, str]:
    """Make one image of store, proxy, Prometheus and exporter; return its variables for compose.yaml."""
    make_base_image(program, f"{SUBSTITUTE}:packages", SUBSTITUTE_PACKAGES)
    docker(
        *("build", "-q", "-f", str(ROOT / "docker/stand-in.Dockerfile"), "-t", SUBSTITUTE),
        *("--build-arg", f"BASE={SUBSTITUTE}:packages", str(ROOT / "docker/proxy")),
    )
    return SUBSTITUTE_VARIABLES


def build(name: str, tag: str, wheels: Sequence[Path] = (), **arguments: str) -> None:
    """Build `docker/NAME.Dockerfile` from the tracked files as they are on disk.

    Args:
        name: of the Dockerfile.
        tag: of the image.
        wheels: added to the context, for what pip cannot reach.
        arguments: of the build.
    """
    options = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    dockerfile = f"docker/{name}.Dockerfile"
    docker("build", "-q", "-f", dockerfile, "-t", tag, *options, "-", stdin=_context(wheels), limit_s=1200)


def inspect_image(tag: str) -> dict[str, Any]:
    """Return size, user and number of packages of an image.

    Raises:
        StepFailed: it runs as root, lacks labels or an SBOM, or contains build tools.
    """
    (image,) = json.loads(docker("image", "inspect", tag))
    user, labels = image["Config"]["User"], image["Config"]["Labels"]
    if user.partition(":")[0] in ("", "0", "root"):
        raise StepFailed(f"{tag} runs as {user or 'root'}")
    missing = {"title", "version", "revision", "licenses"} - {
        label.removeprefix("org.opencontainers.image.") for label in labels
    }
    if missing:
        raise StepFailed(f"{tag} has no label {sorted(missing)}")
    tools = run_in_image(tag, "sh", "-c", f"command -v {' '.join(_FORBIDDEN)} || true").split()
    pip = run_in_image(
        tag, "sh", "-c", "for p in python python3; do $p -m pip --version 2>/dev/null || true; done"
    )
    if tools or pip:
        raise StepFailed(f"{tag} holds {tools or pip}")
    sbom = json.loads(run_in_image(tag, "cat", "/opt/reelrank/sbom.cdx.json"))
    return {
        "size_mb": round(image["Size"] / 1e6),
        "user": user,
        "packages_in_the_sbom": len(sbom["components"]),
    }


def run_in_image(tag: str, program: str, *arguments: str, options: Sequence[str] = ()) -> str:
    """Return the output of a program of an image, on a read-only root without network."""
    return docker(
        *("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--entrypoint", program),
        *(*options, tag, *arguments),
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


def registry_is_reachable(image: str = PYTHON) -> bool:
    """Return whether a base image is here or can be pulled."""
    for command in (("image", "inspect", image), ("pull", "-q", image)):
        try:
            docker(*command, limit_s=300)
        except StepFailed:
            continue
        return True
    return False
