"""`python -m loadtests.faults`: what breaks, what is answered meanwhile, and what is there afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

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
from loadtests.faults.supervision import SUPERVISION_DRILLS
from loadtests.report import EVERY_SECOND, render_faults
from models.errors import BadInput

KILL_DRILLS: Final[dict[str, Drill]] = {"kills, fsync always": kill_repeatedly}
EVERY_SECOND_DRILLS: Final[dict[str, Drill]] = {EVERY_SECOND: kill_repeatedly}
EMBEDDED_DRILLS: Final[dict[str, Drill]] = CLIENT_DRILLS | BUNDLE_DRILLS | PROCESS_DRILLS | SUPERVISION_DRILLS
NAMES: Final = (*STORE_DRILLS, *EMBEDDED_DRILLS, *WORKER_DRILLS, *KILL_DRILLS, *EVERY_SECOND_DRILLS)


def run_drills(
    version: Path, profile: FaultProfile, names: Sequence[str], log: Callable[[str], None]
) -> Iterator[DrillResult]:
    """Run drills of `NAMES` one after the other, those of a group in one environment.

    Args:
        version: folder of the version to serve.
        profile: rates and durations.
        names: of the drills.
        log: called with each name before it runs.

    Raises:
        LoadtestError, StoreUnavailable: service or store did not come up.
        TimeoutError: something that a drill waits for did not happen.
    """
    groups = (
        (STORE_DRILLS, start_environment(version, external_store=True, appendfsync="always")),
        (EMBEDDED_DRILLS, start_environment(version)),
        (WORKER_DRILLS, start_environment(version, "--workers", "2")),
        (KILL_DRILLS, start_environment(version, external_store=True, appendfsync="always")),
        (EVERY_SECOND_DRILLS, start_environment(version, external_store=True)),
    )
    for drills, environment in groups:
        if selected := [name for name in drills if name in names]:
            with environment as env:
                context = DrillContext(env, profile)
                for name in selected:
                    log(name)
                    yield drills[name](name, context)


def main(
    json_file: JsonOption = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Two minutes instead of fifteen; small numbers.")
    ] = False,
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
