"""`python -m training audit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import BadInput
from training.evaluation.evaluate import open_bundle
from training.experiments.config import load_config
from training.experiments.options import CORES, AllTabs, ConfigFile, Jobs, Json, Out
from training.experiments.running import finish, run_with_progress

if TYPE_CHECKING:
    from models.runtime import Bundle
    from training.experiments.audit_data import AuditConfig


def audit(
    out: Out,
    data: Annotated[
        Path | None, typer.Option(help="a folder that `prepare` wrote, or one's own log like it")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="a version's folder, or the folder of versions")] = None,
    runs: Annotated[
        list[Path] | None, typer.Option("--run", help="a run: its evaluation fit; repeatable")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="label makers, separated by commas; by default all, `none` for none")
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="recommenders to fit for it: `lda`, `sasrec binary`, `sasrec ratio`, `din LABEL`"),
    ] = None,
    likes_hates: Annotated[
        Path | None,
        typer.Option(help="a folder of liked and hated rows: audit how often labels put likes above hates"),
    ] = None,
    k: Annotated[int | None, typer.Option(min=1, help="positions of a list (default 5)")] = None,
    test_days: Annotated[
        int | None, typer.Option(min=1, help="the last days: what is audited (default 2)")
    ] = None,
    all_tabs: AllTabs = None,
    allow_seen: Annotated[bool, typer.Option(help="audit rows the weights have seen, and say so")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="of fits and draws (default 0)")] = None,
    jobs: Jobs = CORES,
    config: ConfigFile = None,
    figures: Json = None,
) -> None:
    """Report whose exposure a ranking raises and whom it serves less: durations, popularity, users."""
    from training.experiments.audit import run_audit
    from training.experiments.audit_data import AuditConfig
    from training.experiments.audit_fits import parse_fits

    options = {"k": k, "test_days": test_days, "all_tabs": all_tabs, "seed": seed}
    loaded, fits = load_config(AuditConfig, config, options), parse_fits(fit)
    opened = None if bundle is None else open_bundle(bundle)
    if likes_hates is not None:
        if labels is not None or fits or allow_seen:
            raise BadInput("--labels, --fit and --allow-seen audit a log; leave them out with --likes-hates.")
        if data is None and (k, test_days, all_tabs) != (None, None, None):
            raise BadInput(
                "--k, --test-days and --all-tabs say which slates of a log are chosen beside likes and "
                "hates; give the log as --data, or leave them out."
            )
        _audit_likes_hates(likes_hates, out, loaded, data, opened, runs or (), figures)
        return
    if data is None:
        raise BadInput("there is no log to audit; give --data, or liked and hated rows as --likes-hates.")
    names = None if labels is None else [name.strip() for name in labels.split(",") if name.strip()]
    report = run_with_progress(
        "audit",
        out,
        lambda step: run_audit(
            data,
            out,
            loaded,
            bundle=opened,
            runs=runs or (),
            labels=[] if names == ["none"] else names,
            fits=fits,
            allow_seen=allow_seen,
            processes=jobs,
            on_progress=step,
        ),
    )
    typer.echo(f"{'':36}{'nDCG':>8}{'by duration':>14}{'by popularity':>15}   positions that would change")
    for row in report["rows"]:
        ndcg = row["users"]["whole"]["ndcg"]
        typer.echo(
            f"{row['name']:36}{'–' if ndcg is None else f'{ndcg:.4f}':>8}"
            f"{row['duration']['distance']:>13.1%}{row['popularity']['distance']:>14.1%}"
        )
    finish(out, figures)


def _audit_likes_hates(
    likes_hates: Path,
    out: Path,
    config: AuditConfig,
    data: Path | None,
    bundle: Bundle | None,
    runs: Sequence[Path],
    figures: Path | None,
) -> None:
    from training.experiments.likes_hates import audit_likes_hates, table

    report = run_with_progress(
        "audit",
        out,
        lambda step: audit_likes_hates(
            likes_hates, out, config, data=data, bundle=bundle, runs=runs, on_progress=step
        ),
    )
    typer.echo(table(report))
    finish(out, figures)
