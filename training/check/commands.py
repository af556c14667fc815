"""`python -m training check`: everything that is wrong with a log, and a profile of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from models.errors import BadInput
from training.check.report import Report
from training.data import INTERACTIONS, OwnLog, inspect, prepare
from training.own_log_options import Columns, MainTab, MappingFile, Users, UtcOffset, Videos
from training.staging import refuse_existing


def check(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="a folder that `prepare` wrote, or a file, folder or pattern of a log of one's own",
        ),
    ],
    columns: Columns = None,
    mapping: MappingFile = None,
    videos: Videos = None,
    users: Users = None,
    utc_offset: UtcOffset = None,
    main_tab: MainTab = None,
    out: Annotated[
        Path | None, typer.Option(help="a new folder for data.md, its pictures and data.json")
    ] = None,
) -> None:
    """Find everything that is wrong with a log, and describe it. Nothing is fitted."""
    if out is not None:
        refuse_existing(out)
    own = OwnLog(videos, users, mapping, tuple(columns or ()), utc_offset, main_tab)
    if (log / INTERACTIONS).exists():
        if own != OwnLog():
            raise BadInput(f"{log} is prepared already; a mapping is for a log of one's own.")
        _check(log, out)
        return
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "data"
        typer.echo(str(prepare("own", log, prepared, own=own, report=typer.echo)))
        _check(prepared, out)


def _check(data: Path, out: Path | None) -> None:
    dataset, faults = inspect(data)
    for fault in faults:
        typer.echo(f"- {fault}")
    if dataset is not None:
        report = Report.from_dataset(dataset)
        faults = report.faults
        if out is None:
            typer.echo(report.markdown(), nl=False)
        else:
            report.write(out)
            for warning in report.warnings:
                typer.echo(f"warning: {warning}")
            typer.echo(f"wrote {out / 'data.md'}")
    if faults:
        raise BadInput(
            f"{len(faults)} {'fault' if len(faults) == 1 else 'faults'}, listed above; `fit` refuses the log."
        )
