"""`python -m loadtests.load`: load on a service of our own, on loopback, as a table and as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loadtests.load.budgets import read_budgets, verdicts
from loadtests.load.plays import NAMES, RECORDED, play, replay
from loadtests.load.stage import FULL, SMOKE
from loadtests.load.stalls import SECONDS, stalls
from loadtests.load.table import load_table
from loadtests.load.trace import read_trace
from loadtests.machine import Others, stamp
from loadtests.program import ProgramFailed, version_folder
from models.errors import ReelrankError

MISSED: Final = 3
"""Exit code when a budget is missed and `--strict` asks for it."""


def main(
    only: Annotated[list[str] | None, typer.Option(help="A scenario, by its name; may be repeated.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A folder of versions, or one.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help='Recorded requests instead, a {"path", "body"} a line.')
    ] = None,
    smoke: Annotated[bool, typer.Option(help="A second each: whether it runs, not how fast.")] = False,
    strict: Annotated[bool, typer.Option(help=f"Exit code {MISSED} if a budget is missed.")] = False,
) -> None:
    """Drive each scenario and print what came of it."""
    names = list(NAMES) if only is None else only
    if unknown := [name for name in names if name not in NAMES]:
        print(f"load: there is no scenario {unknown[0]!r}; there is {', '.join(NAMES)}.", file=sys.stderr)
        sys.exit(2)
    found: dict[str, Any] = {}
    pace = SMOKE if smoke else FULL
    began, others = time.monotonic(), Others()
    try:
        version = version_folder(bundle)
        budgets = read_budgets()
        still = stalls(SECONDS if pace is FULL else 0.2)
        if trace is not None:
            found[RECORDED] = replay(read_trace(trace), version, pace)
        wanted = names if trace is None or only is not None else ()
        found |= play(wanted, version, pace, lambda name: print(f"load: {name}", file=sys.stderr, flush=True))
    except (ReelrankError, ProgramFailed) as e:
        print(f"load: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    judged = verdicts(budgets, found)
    report = stamp("python -m loadtests.load") | {
        "bundle": version.name,
        "seconds": round(time.monotonic() - began, 1),
        "others_share": others.share(),
        "stalls": still,
        "figures": found,
        "budgets": [verdict.plain() for verdict in judged],
    }
    if json_file is not None:
        draft = json_file.with_name(json_file.name + ".draft")
        draft.write_text(json.dumps(report, indent=1) + "\n")
        draft.replace(json_file)
    print(load_table(report), end="")
    if strict and not all(verdict.met for verdict in judged):
        sys.exit(MISSED)


if __name__ == "__main__":
    typer.run(main)
