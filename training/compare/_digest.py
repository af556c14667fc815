"""What a comparison depends on, as a digest: finished jobs are taken over only under the same one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch


def digest(data: Path, knobs: str) -> str:
    """Of every table of the log, of the knobs, of this code and of the library that fits.

    The code is digested itself, not its commit: a commit that changes a README changes no figure, and one
    that is not made yet may.
    """
    root = Path(__file__).parents[2]
    found = hashlib.sha256(f"{torch.__version__}\n{knobs}".encode())
    code = (path for package in ("models", "training") for path in (root / package).rglob("*.py"))
    for path in [*sorted(code), *sorted(p for p in data.iterdir() if p.is_file())]:
        found.update(f"\n{path.name}\n".encode())
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
