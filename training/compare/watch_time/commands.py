"""`python -m training compare watch-time`: the command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from training.compare._knobs import read_knobs
from training.compare._pick import pick
from training.compare._run import partial_path, run_command, say
from training.compare._stand import interval
from training.compare.watch_time._compare import compare_watch_time
from training.compare.watch_time._methods import METHODS
from training.compare.watch_time._variants import compare_variants, read_variants
from training.compare.watch_time._world import WatchTimeConfig
from training.data import Protocol

PROTOCOLS = get_args(Protocol)
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def watch_time(
    data: Annotated[Path, typer.Option(help="a folder that `prepare` wrote, or one's own log like it")],
    out: Annotated[Path, typer.Option(help="a new folder for the report")],
    methods: Annotated[
        str | None, typer.Option(help="names, separated by commas; a wrong one lists them all")
    ] = None,
    ablations: Annotated[
        bool | None, typer.Option(help="LDA's ablation rows; by default unless methods are named")
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
    all_tabs: Annotated[
        bool | None, typer.Option("--all-tabs", help="judge every tab, not the data set's main one alone")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help=f"cut a public log as papers do, instead of by days: {', '.join(PROTOCOLS)}"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="knobs as JSON, or another report.json; options go before it")
    ] = None,
    figures: Annotated[Path | None, typer.Option("--json", help="write report.json here, too")] = None,
) -> None:
    """Fit every watch-time head on one encoder, and report which is nearest, next to boosted trees."""
    given = {
        "seeds": seeds,
        "ablation_seeds": ablation_seeds,
        "seed": seed,
        "test_days": test_days,
        "stop_days": stop_days,
        "all_tabs": all_tabs,
        "protocol": protocol,
    }
    knobs = read_knobs(WatchTimeConfig, config, {n: value for n, value in given.items() if value is not None})
    picked = pick(METHODS, methods, ablations=ablations)
    found = run_command(
        "compare",
        lambda report: compare_watch_time(data, out, picked, knobs, processes=jobs, on_progress=report),
        partial_path(out),
        "finished fits",
    )
    say(out, figures, _table(found))


def search(
    data: Annotated[Path, typer.Option(help="a folder that `prepare` wrote, or one's own log like it")],
    out: Annotated[Path, typer.Option(help="a new folder for the record")],
    trials: Annotated[int, typer.Option(min=1, help="sets of knobs that are tried")] = 40,
    seed: Annotated[int | None, typer.Option(min=0, help="of the fits and of the draws (default 0)")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="fits at once, one thread each")] = CORES,
    config: Annotated[
        Path | None, typer.Option(help="knobs of `compare watch-time` as JSON; those searched are replaced")
    ] = None,
) -> None:
    """Search LDA's knobs on the early-stop days, and keep the record. The test days are not read."""
    # optuna takes a second to import.
    from training.compare.watch_time._search import journal_path
    from training.compare.watch_time._search import search as run_search

    knobs = read_knobs(WatchTimeConfig, config, {} if seed is None else {"seed": seed})
    found = run_command(
        "search",
        lambda report: run_search(data, out, knobs, trials=trials, processes=jobs, on_progress=report),
        journal_path(out),
        "finished trials",
    )
    best = found["best"]
    typer.echo(f"best of {len(found['rows'])}: MAE {best['mae_s']:.3f} s, XAUC {best['xauc']:.4f}")
    typer.echo(json.dumps(best["knobs"]))
    typer.echo(f"wrote {out / 'search.md'} and search.json")


def variants(
    data: Annotated[Path, typer.Option(help="a folder that `prepare` wrote, or one's own log like it")],
    out: Annotated[Path, typer.Option(help="a new folder for the record")],
    variants: Annotated[
        Path,
        typer.Option(help="names and the knobs each changes, as JSON, or another record's variants.json"),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="fits of each variant")] = 2,
    bundle: Annotated[
        Path | None, typer.Option(help="a version's folder: whose labels interest is fitted to, where it is")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="fits at once, one thread each")] = CORES,
    config: Annotated[
        Path | None, typer.Option(help="knobs of `compare watch-time` as JSON that every variant starts from")
    ] = None,
) -> None:
    """Fit LDA with knobs picked by hand, judged on the early-stop days. The test days are not read."""
    knobs = read_knobs(WatchTimeConfig, config, {"seeds": seeds})
    picked = read_variants(variants, knobs)
    found = run_command(
        "variants",
        lambda report: compare_variants(
            data, out, picked, knobs, bundle=bundle, processes=jobs, on_progress=report
        ),
        partial_path(out),
        "finished fits",
    )
    for row in found["rows"]:
        if row["refused"] is not None:
            typer.echo(f"{row['name']:24}  {row['refused']}")
            continue
        typer.echo(f"{row['name']:24}  MAE {row['mae_s']['mean']:.3f} s, XAUC {row['xauc']['mean']:.4f}")
    typer.echo(f"wrote {out / 'variants.md'} and variants.json")


def _table(report: dict[str, Any]) -> list[str]:
    """MAE, XAUC and XGAUC, for a terminal."""
    columns = (("mae_s", "MAE, s", 3), ("xauc", "XAUC", 4), ("xgauc", "XGAUC", 4))
    lines = [f"{'':20}" + "".join(f"{title:>20}" for _, title, _ in columns)]
    for row in report["rows"]:
        if row["refused"] is not None:
            lines.append(f"{row['method']:20}  {row['refused']}")
            continue
        cells = (interval(row["metrics"][n]["mean"], row["metrics"][n]["std"], d) for n, _, d in columns)
        lines.append(f"{row['method']:20}" + "".join(f"{cell:>20}" for cell in cells))
    return lines
