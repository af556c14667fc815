"""`python -m training compare objectives`: the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from training.compare._knobs import read_knobs
from training.compare._pick import pick
from training.compare._run import partial_path, run_command, say
from training.compare._stand import interval

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def objectives(
    data: Annotated[Path, typer.Option(help="a folder that `prepare` wrote, or one's own log like it")],
    out: Annotated[Path, typer.Option(help="a new folder for the report")],
    methods: Annotated[
        str | None, typer.Option(help="names, separated by commas; a wrong one lists them all")
    ] = None,
    ablations: Annotated[
        bool | None, typer.Option(help="GradCraft's ablation rows; by default unless methods are named")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="fits of each method (default 5)")] = None,
    ablation_seeds: Annotated[
        int | None, typer.Option(min=1, help="fits of each ablation row, where that is less")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="the first of them (default 0)")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="fits at once, one thread each")] = CORES,
    test_days: Annotated[
        int | None, typer.Option(min=1, help="the last days: what the table is of (default 2)")
    ] = None,
    stop_days: Annotated[
        int | None, typer.Option(min=1, help="the days before them: when to stop (default 1)")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="knobs as JSON, or another report.json; options go before it")
    ] = None,
    figures: Annotated[Path | None, typer.Option("--json", help="write report.json here, too")] = None,
) -> None:
    """Fit ten objectives on one ranker under every balancer, and report AUC, GAUC, calibration and cost."""
    # TorchJD, with the solvers behind CAGrad, takes more than a second to import.
    from training.compare.objectives import METHODS, CompareObjectivesConfig, compare_objectives

    given = {
        "seeds": seeds,
        "ablation_seeds": ablation_seeds,
        "seed": seed,
        "test_days": test_days,
        "stop_days": stop_days,
    }
    knobs = read_knobs(
        CompareObjectivesConfig, config, {n: value for n, value in given.items() if value is not None}
    )
    picked = pick(METHODS, methods, ablations=ablations)
    found = run_command(
        "compare",
        lambda report: compare_objectives(data, out, picked, knobs, processes=jobs, on_progress=report),
        partial_path(out),
        "finished fits",
    )
    say(out, figures, _table(found))


def _table(report: dict[str, Any]) -> list[str]:
    """Mean AUC and GAUC, for a terminal."""
    lines = [f"{'':20}{'mean AUC':>20}{'mean GAUC':>20}"]
    for row in report["rows"]:
        if row["refused"] is not None:
            lines.append(f"{row['method']:20}  {row['refused']}")
            continue
        cells = (interval(row["metrics"][n]["mean"], row["metrics"][n]["std"], 4) for n in ("auc", "gauc"))
        lines.append(f"{row['method']:20}" + "".join(f"{cell:>20}" for cell in cells))
    return lines
