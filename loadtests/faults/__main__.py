"""`python -m loadtests.faults`: what breaks, what is answered meanwhile, and what is there afterwards."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from loadtests.faults.load import FAST, FULL
from loadtests.faults.runs import NAMES, run
from loadtests.machine import stamp
from loadtests.program import ProgramFailed, version_folder
from loadtests.table import faults_table
from models.errors import ReelrankError


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the figures go, as JSON.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="A minute instead of ten; small numbers.")] = False,
    only: Annotated[str, typer.Option(help="Scenarios whose name has this in it.")] = "",
    bundle: Annotated[
        Path | None, typer.Option(help="A folder of versions, or one; the released one if left out.")
    ] = None,
) -> None:
    """Play every scenario on loopback and print the table. Exit code 1 if an event was lost or doubled."""
    names = tuple(name for name in NAMES if only in name)
    if not names:
        refuse(f"no scenario has {only!r} in its name; there are {', '.join(NAMES)}")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        refuse(f"{json_file.absolute().parent} is no folder; name a file in one with --json")
    rows, wrong = [], []
    try:
        for found in run(version_folder(bundle), FAST if fast else FULL, names, tell):
            rows.append(found.plain())
            wrong += [f"{found.name}: {what}" for what in found.wrong]
    except (ReelrankError, ProgramFailed, TimeoutError, httpx2.HTTPError) as e:
        refuse(str(e))
    except KeyboardInterrupt:
        sys.exit(130)
    report = stamp(_command(fast=fast, only=only)) | {"rows": rows}
    sys.stdout.write(faults_table(report))
    if json_file is not None:
        _write(json_file, report)
    if wrong:
        print("faults: " + "; ".join(wrong), file=sys.stderr)
        sys.exit(1)


def tell(name: str) -> None:
    """One line a scenario, for somebody who waits."""
    print(f"faults: {name}", file=sys.stderr, flush=True)


def refuse(why: str) -> None:
    """Say what is wrong in one line, and end."""
    print(f"faults: {why}", file=sys.stderr)
    sys.exit(2)


def _command(*, fast: bool, only: str) -> str:
    return "python -m loadtests.faults" + " --fast" * fast + (f" --only {only!r}" if only else "")


def _write(path: Path, report: dict[str, Any]) -> None:
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps(report, indent=1) + "\n")
    draft.replace(path)
    print(f"faults: wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    # Whoever asks us to end wants what we started to end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    typer.run(main)
