"""What the pages of `docker/` tell an operator to write."""

from __future__ import annotations

import re
from typing import Final

from tests.architecture.repository import ROOT

KUBERNETES: Final = ROOT / "docker" / "kubernetes"


def users_of_the_cluster() -> str:
    """The store's users on the Kubernetes page, as a file of Redis."""
    text = (KUBERNETES / "README.md").read_text()
    (block,) = re.findall(r"```\n(user default .*?)```", text, re.DOTALL)
    found: str = block
    return found
