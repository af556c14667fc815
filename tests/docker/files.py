"""The files of docker/, read as their programs read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from tests.conftest import ROOT

DOCKER: Final = ROOT / "docker"


def compose() -> dict[str, Any]:
    """compose.yaml, anchors and merges resolved, variables as they are without a shell's."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (DOCKER / "compose.yaml").read_text())
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def services() -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = compose()["services"]
    return parts


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())
