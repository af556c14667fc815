"""What the tests of the house look at: the files that git tracks."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("models", "service", "training")


@cache
def tracked() -> tuple[Path, ...]:
    """Tracked files that exist, relative to the root. Skips where there is no git checkout to ask."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("looks at what git tracks, and this is no checkout")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(path for name in listed.split("\0") if name and (ROOT / (path := Path(name))).is_file())


def sources(*folders: str) -> list[Path]:
    """Tracked Python files below the folders."""
    return [path for path in tracked() if path.suffix == ".py" and path.parts[0] in folders]
