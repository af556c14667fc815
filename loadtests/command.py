"""What every command shares: options, one-line errors with exit codes, reports with their origin."""

from __future__ import annotations

import functools
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import httpx2
import typer

from loadtests.host import run_metadata
from models.errors import ReelrankError

BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="A folder of versions, or one version; default: the released.")
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the report here too.")]
P = ParamSpec("P")


class LoadtestError(Exception):
    """A run that cannot be finished. The message is one line for the terminal."""


def make_app(name: str, main: Callable[P, None]) -> typer.Typer:
    """Return the command `python -m loadtests.NAME`.

    Expected errors are one line on standard error and exit code 2. Ctrl-C is exit code 130, SIGTERM 143; both
    end everything that was started.
    """

    @functools.wraps(main)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except (ReelrankError, LoadtestError, TimeoutError, httpx2.HTTPError) as error:
            log_progress(name, str(error))
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    return app


def run(app: typer.Typer) -> None:
    """Run a command as a program."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    app()


def log_progress(command: str, message: str) -> None:
    """Print one line on standard error."""
    print(f"{command}: {message}", file=sys.stderr, flush=True)


def check_folder(*files: Path | None) -> None:
    """Raise `LoadtestError` before a long run if the folder of an output file does not exist."""
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise LoadtestError(f"{file.absolute().parent} is no folder; name a file in an existing one.")


def write_atomically(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(text)
    draft.replace(path)


def write_report(command: str, report: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """Return a report with command, commit, date and machine in front; write it where a path is given."""
    complete = run_metadata(command) | report
    if path is not None:
        write_atomically(path, json.dumps(complete, indent=1) + "\n")
    return complete


def print_report(command: str, report: dict[str, Any], path: Path | None = None) -> None:
    """Print a report as JSON, as `write_report` completes and writes it."""
    print(json.dumps(write_report(command, report, path), indent=1))
