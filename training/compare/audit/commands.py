"""`python -m training audit`: the command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from training.compare._knobs import read_knobs
from training.compare._run import partial_path, run_command, say
from training.compare.audit._audit import audit as run_audit
from training.compare.audit._fit import names
from training.compare.audit._world import AuditConfig
from training.evaluation.evaluate import open_bundle

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def audit(
    data: Annotated[Path, typer.Option(help="a folder that `prepare` wrote, or one's own log like it")],
    out: Annotated[Path, typer.Option(help="a new folder for the report")],
    bundle: Annotated[Path | None, typer.Option(help="a version's folder, or the folder of versions")] = None,
    runs: Annotated[
        list[Path] | None, typer.Option("--run", help="a run: its fit before the test days; repeatable")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="label makers, separated by commas; by default all, `none` for none")
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="recommenders to fit for it: `lda`, `sasrec binary`, `sasrec ratio`, `din LABEL`"),
    ] = None,
    k: Annotated[int | None, typer.Option(min=1, help="places of a list (default 5)")] = None,
    test_days: Annotated[
        int | None, typer.Option(min=1, help="the last days: what is audited (default 2)")
    ] = None,
    all_tabs: Annotated[
        bool | None, typer.Option("--all-tabs", help="judge every tab, not the data set's main one alone")
    ] = None,
    allow_seen: Annotated[bool, typer.Option(help="audit rows the weights have seen, and say so")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="of fits and draws (default 0)")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="fits at once, one thread each")] = CORES,
    config: Annotated[
        Path | None, typer.Option(help="knobs as JSON, or another report.json; options go before it")
    ] = None,
    figures: Annotated[Path | None, typer.Option("--json", help="write report.json here, too")] = None,
) -> None:
    """Report what is shown more than the log has it, and who gets less: durations, popularity, users."""
    given = {"k": k, "test_days": test_days, "all_tabs": all_tabs, "seed": seed}
    knobs = read_knobs(AuditConfig, config, {n: value for n, value in given.items() if value is not None})
    fits = names(fit)
    found = run_command(
        "audit",
        lambda report: run_audit(
            data,
            out,
            knobs,
            bundle=None if bundle is None else open_bundle(bundle),
            runs=runs or (),
            labels=_labels(labels),
            fits=fits,
            allow_seen=allow_seen,
            processes=jobs,
            on_progress=report,
        ),
        partial_path(out),
        "finished fits",
    )
    say(out, figures, _table(found))


def _labels(asked: str | None) -> Sequence[str] | None:
    if asked is None:
        return None
    return [] if asked.strip() == "none" else [name.strip() for name in asked.split(",") if name.strip()]


def _table(report: dict[str, Any]) -> list[str]:
    """What matters most, for a terminal."""
    lines = [f"{'':36}{'nDCG':>8}{'by duration':>14}{'by popularity':>15}   places that would change hands"]
    for row in report["rows"]:
        ndcg = row["users"]["whole"]["ndcg"]
        lines.append(
            f"{row['name']:36}{'–' if ndcg is None else f'{ndcg:.4f}':>8}"
            f"{row['duration']['distance']:>13.1%}{row['popularity']['distance']:>14.1%}"
        )
    return lines
