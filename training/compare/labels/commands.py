"""`python -m training compare labels`: the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from models.errors import BadInput
from training.compare._knobs import read_knobs
from training.compare._pick import pick
from training.compare._run import partial_path, run_command, say
from training.compare._stand import interval
from training.compare.labels._columns import COLUMNS, digits, title
from training.compare.labels._compare import compare_labels
from training.compare.labels._methods import METHODS
from training.compare.labels._world import CompareConfig

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def labels(
    data: Annotated[Path, typer.Option(help="a folder that `prepare` wrote, or one's own log like it")],
    out: Annotated[Path, typer.Option(help="a new folder for the report")],
    methods: Annotated[
        str | None, typer.Option(help="names, separated by commas; a wrong one lists them all")
    ] = None,
    ablations: Annotated[
        bool | None, typer.Option(help="LabelCraft's ablation rows; by default unless methods are named")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="fits of each method (default 5)")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="the first of them (default 0)")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="fits at once, one thread each")] = CORES,
    k: Annotated[str | None, typer.Option(help="places of a list that count (default 5,10)")] = None,
    test_days: Annotated[
        int | None, typer.Option(min=1, help="the last days: what the table is of (default 2)")
    ] = None,
    stop_days: Annotated[
        int | None, typer.Option(min=1, help="the days before them: when to stop (default 2)")
    ] = None,
    meta_days: Annotated[
        int | None, typer.Option(min=1, help="the days before those: LabelCraft's hold-out (default 2)")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="knobs as JSON, or another report.json; options go before it")
    ] = None,
    figures: Annotated[Path | None, typer.Option("--json", help="write report.json here, too")] = None,
) -> None:
    """Fit one recommender on every label, and report which label serves this platform, with error bars."""
    given = {
        "seeds": seeds,
        "seed": seed,
        "cuts": None if k is None else _cuts(k),
        "test_days": test_days,
        "stop_days": stop_days,
        "meta_days": meta_days,
    }
    knobs = read_knobs(
        CompareConfig, config, {name: value for name, value in given.items() if value is not None}
    )
    picked = pick(METHODS, methods, ablations=ablations)
    found = run_command(
        "compare",
        lambda report: compare_labels(data, out, picked, knobs, processes=jobs, on_progress=report),
        partial_path(out),
        "finished fits",
    )
    say(out, figures, _table(found))


def _cuts(k: str) -> list[int]:
    """`5,10` -> 5 and 10, ascending."""
    try:
        return sorted({int(part) for part in k.split(",")})
    except ValueError:
        raise BadInput(f"--k takes numbers separated by commas, such as 5,10; found {k!r}.") from None


def _table(report: dict[str, Any]) -> list[str]:
    """The three columns at the largest k, for a terminal."""
    names = [f"{column}@{report['cuts'][-1]}" for column in COLUMNS]
    lines = [f"{'':32}" + "".join(f"{title(name):>20}" for name in names)]
    for row in report["rows"]:
        if row["refused"] is not None:
            lines.append(f"{row['method']:32}  {row['refused']}")
            continue
        cells = (interval(row["metrics"][n]["mean"], row["metrics"][n]["std"], digits(n)) for n in names)
        lines.append(f"{row['method']:32}" + "".join(f"{cell:>20}" for cell in cells))
    return lines
