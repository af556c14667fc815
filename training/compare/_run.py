"""What every comparison does around its fits: where finished ones are kept, and what a command says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from models.errors import BadInput
from training.compare._digest import digest
from training.compare._jobs import Checkpoint, Job, Outcome, Prepare, Progress, run_jobs
from training.config import Config
from training.progress import progress


def partial_path(out: Path) -> Path:
    """Where finished fits are kept until the report is written."""
    return out.parent / f".{out.name}.partial.jsonl"


def fit_all(
    jobs: Sequence[Job],
    prepare: Prepare,
    data: Path,
    out: Path,
    config: Config,
    *,
    processes: int,
    on_progress: Progress,
) -> tuple[dict[Job, Outcome], Checkpoint]:
    """Every job's outcome, those taken over that an earlier run of the same log, knobs and code finished.

    Seeds and resamples are no part of "the same knobs": more of them go on from there.

    Returns:
        The outcomes, and the checkpoint to remove when the report is written.

    Raises:
        BadInput: no method works on this log.
    """
    knobs = config.model_dump_json(exclude={"seed", "seeds", "ablation_seeds", "resamples"})
    checkpoint = Checkpoint(partial_path(out), digest(data, knobs))
    outcomes = run_jobs(jobs, prepare, checkpoint, processes=processes, on_progress=on_progress)
    if all(outcome.refused is not None for outcome in outcomes.values()):
        first = next(iter(outcomes.values())).refused
        raise BadInput(f"none of the methods works on this log; the first says: {first}")
    return outcomes, checkpoint


def run_command(
    what: str, compare: Callable[[Progress], dict[str, Any]], kept: Path, kept_are: str
) -> dict[str, Any]:
    """Run with a bar; on Ctrl-C say where what is finished is kept.

    Args:
        what: the bar's name.
        compare: given where to report the share that is done; returns the report.
        kept: the file that finished work is in.
        kept_are: what lies in it, for the message.
    """
    try:
        with progress() as report:
            return compare(lambda share: report(what, share))
    except KeyboardInterrupt:
        if kept.exists():
            typer.echo(f"{kept_are} are in {kept}: the same command goes on", err=True)
        raise


def say(out: Path, figures: Path | None, lines: Sequence[str]) -> None:
    """A table on the terminal, the report for machines where it is asked for, and where all of it lies."""
    if figures is not None:
        figures.parent.mkdir(parents=True, exist_ok=True)
        figures.write_text((out / "report.json").read_text())
    for line in lines:
        typer.echo(line)
    typer.echo(f"wrote {out / 'report.md'}, report.json and pictures")
