"""`python -m loadtests.memory`: what users, events and videos cost, measured on this machine, as JSON.

Loopback only, nothing is asserted. At full size it takes some minutes, 4 GB of memory and 1 GB of disk.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from loadtests.machine import stamp
from loadtests.memory import catalogue, store
from loadtests.program import ProgramFailed, version_folder
from models.errors import ReelrankError

VIDEOS: Final = 10_000_000
USERS: Final = 1_000_000


def main(
    bundle: Annotated[Path | None, typer.Option(help="A folder of versions, or one.")] = None,
    videos: Annotated[int, typer.Option(min=1000, help="Of the catalogue.")] = VIDEOS,
    users: Annotated[int, typer.Option(min=100, help="Of the store.")] = USERS,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    smoke: Annotated[bool, typer.Option(help="Small: whether it runs, not what it finds.")] = False,
) -> None:
    """Measure and print."""
    if smoke:
        videos, users = min(videos, 20_000), min(users, 2000)
    command = "python -m loadtests.memory" + (" --smoke" if smoke else "")
    try:
        version = version_folder(bundle)
        with tempfile.TemporaryDirectory(prefix="reelrank-memory-") as folder:
            figures = {
                "store": asyncio.run(store.measured(Path(folder), users)),
                "catalogue": catalogue.measured(
                    version, Path(folder), videos, workers=(1, 2) if smoke else (1, 2, 4)
                ),
            }
    except (ReelrankError, ProgramFailed) as e:
        print(f"memory: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    text = json.dumps(stamp(command) | {"bundle": version.name, "figures": figures}, indent=2) + "\n"
    if json_file is not None:
        draft = json_file.with_name(json_file.name + ".draft")
        draft.write_text(text)
        draft.replace(json_file)
    print(text, end="")


if __name__ == "__main__":
    typer.run(main)
