"""File descriptors: as many as this process may have, and fewer connections than that."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

WANTED: Final = 65_536
"""What the soft limit is raised to, where the hard one allows it. The usual soft limit is 1,024."""
RESERVED: Final = 512
"""For the store, bundles and logs, or half of all where there are few."""


def raise_limit() -> None:
    """Raise the soft limit on open files; processes that are started later inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a system may have a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def max_connections() -> int:
    """Return how many connections this process may accept and still open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = WANTED if soft == resource.RLIM_INFINITY else soft
    return limit - min(RESERVED, limit // 2)
