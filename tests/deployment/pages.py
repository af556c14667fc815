"""Files that the pages of `docker/` ask an operator to write."""

from __future__ import annotations

import re
from typing import Final

from tests.architecture.repository import ROOT

KUBERNETES: Final = ROOT / "docker" / "kubernetes"


def users_of_the_cluster() -> str:
    """The store's users on the Kubernetes page, as a file of Redis."""
    text = (KUBERNETES / "README.md").read_text()
    (block,) = re.findall(r"```\n(user default .*?)```", text, re.DOTALL)
    text_of_block: str = block
    return text_of_block
