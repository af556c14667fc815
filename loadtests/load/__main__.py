"""`python -m loadtests.load`: load on a service of its own on loopback, as a table and as JSON."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loadtests.command import BundleOption, JsonOption, log_progress, make_app, run, write_report
from loadtests.environment import version_folder
from loadtests.host import OtherLoad, measure_jitter
from loadtests.load.budgets import read_budgets, verdicts
from loadtests.load.scenarios import FULL, NAMES, RECORDED, SMOKE, replay, run_scenarios
from loadtests.load.trace import read_trace
from loadtests.report import render_load
from models.errors import BadInput

MISSED: Final = 3
"""Exit code with `--strict` when a budget is missed."""
JITTER_S: Final = 3.0


def main(
    only: Annotated[list[str] | None, typer.Option(help="A scenario by its name; may be repeated.")] = None,
    bundle: BundleOption = None,
    json_file: JsonOption = None,
    trace: Annotated[
        Path | None, typer.Option(help='Replay a recording instead: lines of {"path", "body"}.')
    ] = None,
    smoke: Annotated[
        bool, typer.Option(help="A second each: checks that it runs, measures nothing.")
    ] = False,
    strict: Annotated[bool, typer.Option(help=f"Exit code {MISSED} if a budget is missed.")] = False,
) -> None:
    """Run scenarios and print the table of their figures."""
    names = list(NAMES) if only is None else only
    profile = SMOKE if smoke else FULL
    start_s, other_load = time.monotonic(), OtherLoad()
    figures: dict[str, Any] = {}
    if unknown := [name for name in names if name not in NAMES]:
        raise BadInput(f"there is no scenario {unknown[0]!r}; there is {', '.join(NAMES)}.")
    version = version_folder(bundle)
    budgets = read_budgets()
    jitter = measure_jitter(0.2 if smoke else JITTER_S)
    if trace is not None:
        figures[RECORDED] = replay(read_trace(trace), version, profile)
        names = names if only is not None else []
    figures |= run_scenarios(names, version, profile, lambda name: log_progress("load", name))
    results = verdicts(budgets, figures)
    report = {
        "bundle": version.name,
        "seconds": round(time.monotonic() - start_s, 1),
        "others_share": other_load.share(),
        "stalls": jitter,
        "figures": figures,
        "budgets": results,
    }
    print(render_load(write_report("python -m loadtests.load", report, json_file)), end="")
    if strict and not all(verdict["met"] for verdict in results):
        sys.exit(MISSED)


app = make_app("load", main)

if __name__ == "__main__":
    run(app)
