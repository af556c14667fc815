"""Options that commands of experiments share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, get_args

import typer

from training.data import Protocol

CORES: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Data = Annotated[Path, typer.Option(help="a folder that `prepare` wrote, or one's own log like it")]
Out = Annotated[Path, typer.Option(help="a new folder for the report")]
Methods = Annotated[str | None, typer.Option(help="names, separated by commas; a wrong one lists them all")]
Ablations = Annotated[
    bool | None, typer.Option(help="the ablation rows; by default unless methods are named")
]
Seeds = Annotated[int | None, typer.Option(min=1, help="fits of each method (default 5)")]
AblationSeeds = Annotated[
    int | None, typer.Option(min=1, help="fits of each ablation row, where that is fewer")
]
Seed = Annotated[int | None, typer.Option(min=0, help="the first of them (default 0)")]
Jobs = Annotated[int, typer.Option(min=1, help="fits at once, one thread each")]
TestDays = Annotated[
    int | None, typer.Option(min=1, help="the last days, which the table reports (default 2)")
]
StopDays = Annotated[
    int | None, typer.Option(min=1, help="the days before them, which stop fits early (default 1; labels 2)")
]
Windows = Annotated[
    int | None, typer.Option(min=1, help="windows of --test-days, the last ones that the log has (default 3)")
]
PublishedSplit = Annotated[
    str | None,
    typer.Option(help=f"cut a public log as papers do, instead of by days: {', '.join(get_args(Protocol))}"),
]
AllTabs = Annotated[
    bool | None, typer.Option("--all-tabs", help="report every tab, not the dataset's main one alone")
]
ConfigFile = Annotated[
    Path | None, typer.Option(help="a config as JSON, or another report.json; options override it")
]
HeadsConfig = Annotated[
    Path | None, typer.Option(help="the config of `compare watch-time` as JSON to start from")
]
Json = Annotated[Path | None, typer.Option("--json", help="write report.json here, too")]
