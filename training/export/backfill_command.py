"""The command `backfill`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from training.command_line import Json, write_json
from training.evaluation.evaluate import open_bundle, version_folder
from training.experiments.engine import write_report
from training.experiments.render import markdown
from training.export.backfill import Task, backfill, left_to_do, price, read_partitions, total_changes
from training.export.batch_label import chosen_labels
from training.export.label_changes import MOVED
from training.progress import progress
from training.provenance import provenance


def backfill_command(
    bundle: Annotated[Path, typer.Option(help="a version's folder, or the folder of versions")],
    data: Annotated[Path, typer.Option(help="a folder of folders that `prepare` wrote, one a partition")],
    out: Annotated[Path, typer.Option(help="the folder of labels; one that a backfill has begun continues")],
    before: Annotated[
        Path | None, typer.Option(help="the version until now: report what changes against its labels")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="names, separated by commas; by default all")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="partitions at once")] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="say what it will take, and stop")] = False,
    figures: Json = None,
) -> None:
    """Label a log of many partitions by a new bundle, and report what changes."""
    names = chosen_labels(open_bundle(bundle), () if labels is None else labels.split(","))
    about = provenance()
    note = {f"reelrank.{name}": value for name, value in about.items()}
    task = Task(bundle, before, names, out, note)
    partitions = read_partitions(data)
    left = left_to_do(partitions, task)
    done = len(partitions) - len(left)
    typer.echo(f"{len(partitions):,} partitions, {done:,} of them labelled before")
    price_of_rest = price(left, task) if left else None
    if price_of_rest is not None:
        typer.echo(
            f"{price_of_rest.rows:,} rows are left: about {price_of_rest.core_hours:.2g} core-hours and "
            f"{price_of_rest.gigabytes:.2g} GB, by a sample of the largest partition"
        )
    report = {
        "kind": "backfill",
        **about,
        "bundle": version_folder(bundle).name,
        "before": None if before is None else version_folder(before).name,
        "partitions": len(partitions),
        "rows_in_all": sum(partition.rows for partition in partitions),
        "moved_by": MOVED,
        "price_of_rest": None if price_of_rest is None else price_of_rest._asdict(),
    }
    if not plan:
        out.mkdir(parents=True, exist_ok=True)
        with progress() as show:
            backfill(left, task, jobs=jobs, on_progress=lambda share: show("label", share))
        if before is not None:
            report["changes"] = total_changes(partitions, out)
            if left:
                shutil.rmtree(out / "report", ignore_errors=True)
            if not (out / "report").exists():
                write_report(out / "report", "report", report)
            typer.echo(markdown(out / "report"))
        typer.echo(f"wrote {len(left):,} partitions to {out}" if left else f"nothing to do in {out}")
    write_json(figures, report)
