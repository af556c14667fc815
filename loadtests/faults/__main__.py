"""`python -m loadtests.faults`: what breaks, what is answered meanwhile, and what is there afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from loadtests.command import (
    BundleOption,
    JsonOption,
    check_folder,
    log_progress,
    make_app,
    run,
    write_report,
)
from loadtests.environment import start_environment, version_folder
from loadtests.faults.background_load import FAST, FULL, FaultProfile
from loadtests.faults.bad_clients import CLIENT_DRILLS
from loadtests.faults.drills import (
    BUNDLE_DRILLS,
    PROCESS_DRILLS,
    STORE_DRILLS,
    WORKER_DRILLS,
    Drill,
    DrillContext,
    DrillResult,
    kill_repeatedly,
)
from loadtests.report import EVERY_SECOND, render_faults
from models.errors import BadInput


@dataclass(frozen=True, slots=True)
class DrillGroup:
    """Drills that share an environment, see `start_environment`."""

    drills: dict[str, Drill]
    options: tuple[str, ...] = ()
    external_store: bool = False
    appendfsync: Literal["everysec", "always"] = "everysec"


GROUPS: Final = (
    DrillGroup(STORE_DRILLS, external_store=True, appendfsync="always"),
    DrillGroup(CLIENT_DRILLS | BUNDLE_DRILLS | PROCESS_DRILLS),
    DrillGroup(WORKER_DRILLS, options=("--workers", "2")),
    DrillGroup({"kills, fsync always": kill_repeatedly}, external_store=True, appendfsync="always"),
    DrillGroup({EVERY_SECOND: kill_repeatedly}, external_store=True),
)
NAMES: Final = tuple(name for group in GROUPS for name in group.drills)


def run_drills(
    version: Path, profile: FaultProfile, names: tuple[str, ...], log: Callable[[str], None]
) -> Iterator[DrillResult]:
    """Run drills one after the other.

    Args:
        version: folder of the version to serve.
        profile: rates and durations.
        names: of drills in `NAMES`.
        log: called with each name before it runs.

    Raises:
        LoadtestError, StoreUnavailable: service or store did not come up.
        TimeoutError: something that a drill waits for did not happen.
    """
    for group in GROUPS:
        selected = {name: drill for name, drill in group.drills.items() if name in names}
        if not selected:
            continue
        with start_environment(
            version, *group.options, external_store=group.external_store, appendfsync=group.appendfsync
        ) as env:
            context = DrillContext(env, profile)
            for name, drill in selected.items():
                log(name)
                yield drill(name, context)


def main(
    json_file: JsonOption = None,
    fast: Annotated[bool, typer.Option("--fast", help="A minute instead of ten; small numbers.")] = False,
    only: Annotated[str, typer.Option(help="Drills whose name contains this.")] = "",
    bundle: BundleOption = None,
) -> None:
    """Run fault drills on loopback and print their table; exit code 1 if an event was lost or duplicated."""
    names = tuple(name for name in NAMES if only in name)
    command = "python -m loadtests.faults" + " --fast" * fast + (f" --only {only!r}" if only else "")
    if not names:
        raise BadInput(f"no drill has {only!r} in its name; there are {', '.join(NAMES)}.")
    check_folder(json_file)
    profile = FAST if fast else FULL
    version = version_folder(bundle)
    results = list(run_drills(version, profile, names, lambda name: log_progress("faults", name)))
    report = write_report(command, {"rows": [asdict(result) for result in results]}, json_file)
    sys.stdout.write(render_faults(report))
    failures = [f"{result.name}: {failure}" for result in results for failure in result.failures()]
    if failures:
        print("faults: " + "; ".join(failures), file=sys.stderr)
        sys.exit(1)


app = make_app("faults", main)

if __name__ == "__main__":
    run(app)
