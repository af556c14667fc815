"""The peers' own environments: what they need is theirs, and never comes near the service's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "runs" / "peers"
"""Where they are, unless a caller has another place."""
LIMIT_S: Final = 900.0
"""For one of them to be installed."""


class PeerUnavailable(Exception):
    """A peer cannot be run here. The message says why, and what to do."""


def requirements(name: str) -> Path:
    """The file that pins what a peer needs."""
    return Path(__file__).with_name(f"requirements-{name}.txt")


def version(name: str, package: str | None = None) -> str:
    """The version that is pinned of a peer, or of a package it needs."""
    found = re.search(rf"^{package or name}==(\S+)$", requirements(name).read_text(), re.MULTILINE)
    assert found is not None, f"{requirements(name)} does not pin {package or name}"
    return found[1]


def installed(name: str, folder: Path = FOLDER) -> Path | None:
    """The Python of a peer's environment; `None` if that is missing, or was made of other requirements."""
    python, made_of = folder / name / "bin" / "python", folder / name / "requirements.txt"
    there = python.exists() and made_of.exists() and made_of.read_bytes() == requirements(name).read_bytes()
    return python if there else None


def environment(name: str, folder: Path = FOLDER) -> Path:
    """The Python of a peer's environment, which is made if it is not there.

    Args:
        name: of the peer.
        folder: of all environments.

    Raises:
        PeerUnavailable: it cannot be installed.
    """
    if (python := installed(name, folder)) is not None:
        return python
    print(f"peers: installing {name} {version(name)} into {folder / name}", file=sys.stderr, flush=True)
    place = folder / name
    python = place / "bin" / "python"
    try:
        _run(name, [sys.executable, "-m", "venv", "--clear", "--without-pip", str(place)])
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
        pip += ["--no-input", "install", "-q"]
        _run(name, [*pip, "-r", str(requirements(name))])
        (place / "requirements.txt").write_bytes(requirements(name).read_bytes())
    except OSError as e:
        raise PeerUnavailable(f"{name} cannot be installed into {place}: {e.strerror or e}.") from e
    return python


def _run(name: str, command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired as e:
        raise PeerUnavailable(f"{name} was not installed within {LIMIT_S:.0f} s; run it again.") from e
    if done.returncode == 0:
        return
    lines = (done.stderr or done.stdout).strip().splitlines() or ["it gives no reason"]
    # Of a version that is not there, pip lists every one that is.
    said = re.sub(r" \(from versions: .*\)", "", next((x for x in lines if x.startswith("ERROR")), lines[-1]))
    raise PeerUnavailable(
        f"{name} {version(name)} cannot be installed: {said}. pip takes it from the package index: connect "
        "this machine to one, or name one that it reaches with PIP_INDEX_URL, and run this again."
    )
