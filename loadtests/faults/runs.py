"""Every scenario, and the stage it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from loadtests.faults import clients, processes, store, versions
from loadtests.faults.durability import through_kills
from loadtests.faults.load import Pace
from loadtests.faults.report import EVERY_SECOND, Row
from loadtests.faults.stage import Scenario, stage


@dataclass(frozen=True, slots=True)
class Group:
    """Scenarios that share a stage, see `stage` for the rest."""

    scenarios: dict[str, Scenario]
    options: tuple[str, ...] = ()
    outside: bool = False
    appendfsync: Literal["everysec", "always"] = "everysec"


GROUPS: Final = (
    Group(store.SCENARIOS, outside=True, appendfsync="always"),
    Group(clients.SCENARIOS | versions.SCENARIOS | processes.SCENARIOS),
    Group(processes.OF_WORKERS, options=("--workers", "2")),
    Group({"kills, fsync always": through_kills}, outside=True, appendfsync="always"),
    Group({EVERY_SECOND: through_kills}, outside=True),
)

NAMES: Final = tuple(name for group in GROUPS for name in group.scenarios)


def run(version: Path, pace: Pace, names: tuple[str, ...], tell: Callable[[str], None]) -> Iterator[Row]:
    """Play scenarios, one after the other.

    Args:
        version: the folder of the version to serve.
        pace: how long and how much.
        names: of the scenarios, out of `NAMES`.
        tell: hears the name of each before it begins.

    Raises:
        ProgramFailed, StoreUnavailable: service or store did not come up.
        TimeoutError: something that a scenario waits for did not come about.
    """
    for group in GROUPS:
        wanted = {name: play for name, play in group.scenarios.items() if name in names}
        if not wanted:
            continue
        setting = stage(version, pace, *group.options, outside=group.outside, appendfsync=group.appendfsync)
        with setting as ready:
            for name, play in wanted.items():
                tell(name)
                yield play(name, ready)
