"""`python -m loadtests.load`: scenarios of load against a service of our own, on loopback, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from loadtests.load.scenarios import SCENARIOS, play
from loadtests.load.stage import FULL, SMOKE
from loadtests.machine import stamp
from loadtests.program import ProgramFailed, version_folder
from models.errors import ReelrankError


def main(
    only: Annotated[list[str] | None, typer.Option(help="A scenario, by its name; may be repeated.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A folder of versions, or one.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    smoke: Annotated[bool, typer.Option(help="A second each: whether it runs, not how fast.")] = False,
) -> None:
    """Drive each scenario and print what came of it."""
    names = list(SCENARIOS) if only is None else only
    if unknown := [name for name in names if name not in SCENARIOS]:
        print(f"load: there is no scenario {unknown[0]!r}; there is {', '.join(SCENARIOS)}.", file=sys.stderr)
        sys.exit(2)
    found: dict[str, Any] = {}
    try:
        version = version_folder(bundle)
        for name in names:
            print(f"load: {name}", file=sys.stderr, flush=True)
            found[name] = play(name, version, SMOKE if smoke else FULL)
    except (ReelrankError, ProgramFailed) as e:
        print(f"load: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    report = stamp("python -m loadtests.load") | {"bundle": version.name, "figures": found}
    text = json.dumps(report, indent=2) + "\n"
    if json_file is not None:
        draft = json_file.with_name(json_file.name + ".draft")
        draft.write_text(text)
        draft.replace(json_file)
    print(text, end="")


if __name__ == "__main__":
    typer.run(main)
