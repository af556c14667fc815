"""What commands of experiments have in common: a progress bar, and what they print at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from training.experiments.engine import partial_path
from training.experiments.jobs import Progress
from training.progress import progress


def run_with_progress(title: str, out: Path, run: Callable[[Progress], dict[str, Any]]) -> dict[str, Any]:
    """Run with a progress bar; on Ctrl-C report where finished fits are kept."""
    try:
        with progress() as report:
            return run(lambda share: report(title, share))
    except KeyboardInterrupt:
        if partial_path(out).exists():
            typer.echo(f"finished fits are in {partial_path(out)}: the same command continues", err=True)
        raise


def finish(out: Path, figures: Path | None) -> None:
    """Copy the figures where the command wants them, and print what was written."""
    if figures is not None:
        figures.parent.mkdir(parents=True, exist_ok=True)
        figures.write_text((out / "report.json").read_text())
    typer.echo(f"wrote {out / 'report.md'} and report.json")
