"""Every scenario by its name, and what each needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from loadtests.load.scenarios import (
    WORKERS,
    Figures,
    Scenario,
    cold_users,
    hot_users,
    label,
    mixed,
    recorded,
    rerank,
    stream,
    workers,
)
from loadtests.load.stage import Pace, stage
from loadtests.load.trouble import delayed_store, overload, reload, start

START: Final = "start"
DELAYED: Final = "store 5 ms late"
TWO_WORKERS: Final = f"rerank 200, {WORKERS} workers"
RECORDED: Final = "recorded"
OVERLOAD: Final = "twice the capacity"

SCENARIOS: Final[dict[str, Scenario]] = {
    "rerank 50": rerank(50),
    "rerank 200": rerank(200, against_bare=True),
    "rerank 500": rerank(500),
    "rerank 2000": rerank(2000),
    "rerank 200, users nobody has met": cold_users,
    "reload and rollback": reload,
    OVERLOAD: overload,
    "mixed": mixed,
    "hot users": hot_users,
    "label 1": label(1),
    "label 100": label(100),
    "label NDJSON": stream,
    TWO_WORKERS: workers,
    DELAYED: delayed_store,
}
"""By the name they have in the table. They share a running service where they can; those that only read come
first, so that its users have the histories they were given. Besides them there is `START`, which has none."""

NAMES: Final = (START, *SCENARIOS)


def play(
    names: Iterable[str], version: Path, pace: Pace, begun: Callable[[str], None]
) -> Iterator[tuple[str, Figures]]:
    """Scenarios of `NAMES`, in the order of that, each once it is played.

    Args:
        names: of those to be played.
        version: the folder of the version to serve.
        pace: how much of everything.
        begun: told the name of each before it is played.

    Raises:
        ProgramFailed: the service did not come up, or answered a single request with an error.
    """
    wanted = [name for name in NAMES if name in set(names)]
    for kind, group in groupby(wanted, key=_kind):
        if kind == START:
            begun(START)
            yield START, start(version, pace)
            continue
        options = ("--workers", str(WORKERS)) if kind == TWO_WORKERS else ()
        with stage(version, pace, *options, delayed=kind == DELAYED) as on:
            for name in group:
                begun(name)
                yield name, SCENARIOS[name](on)


def replay(requests: list[bytes], version: Path, pace: Pace) -> Figures:
    """A recording instead of made-up traffic.

    Raises:
        ProgramFailed: see `play`.
    """
    with stage(version, pace) as on:
        return recorded(requests)(on)


def _kind(name: str) -> str | None:
    """What a scenario needs: a stage of its own, or `None`."""
    return name if name in (START, TWO_WORKERS, DELAYED) else None
