"""Whether a server is configured to keep what it is given: what its INFO says of memory, disk and role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

RISKS: Final = ("eviction", "persistence", "replica", "shortened", "unchecked")

INFO: Final = ("INFO", "memory", "persistence", "replication")


def risks_of(answers: list[Any]) -> dict[str, str]:
    """Return what may lose events, each with a sentence for the operator.

    Args:
        answers: of the primaries to `INFO`: text, what the client has made of it, or an error.
    """
    risks: dict[str, str] = {}
    for answer in answers:
        try:
            risks |= _risks({} if isinstance(answer, Exception) else _fields(answer))
        except (KeyError, ValueError):
            risks["unchecked"] = (
                "whether it evicts and writes to its disk could not be checked: allow this user INFO"
            )
    return risks


def _risks(info: Mapping[str, str]) -> dict[str, str]:
    risks: dict[str, str] = {}
    policy, limit = info["maxmemory_policy"], int(info["maxmemory"])
    if policy != "noeviction" and limit > 0:
        risks["eviction"] = (
            f"it evicts when its {limit:,} bytes are full (maxmemory-policy {policy}), and a repeated event "
            "that was evicted counts twice: set noeviction"
        )
    if info["aof_enabled"] == "0":
        risks["persistence"] = (
            "it has no append-only file, so a crash loses all since its last snapshot, if there is one: "
            "set appendonly yes"
        )
    if info["role"] != "master":
        risks["replica"] = "it is a replica, which takes no writes: name the primary"
    return risks


def _fields(answer: Any) -> Mapping[str, str]:
    if isinstance(answer, bytes):
        return dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)
    return {name: str(value) for name, value in answer.items()}
