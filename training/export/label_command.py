"""The command `label`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from training.command_line import Json, write_json
from training.engine_options import Engine, Master, Remote, refuse_cluster
from training.evaluation.evaluate import open_bundle, version_folder
from training.export.batch_label import label_log
from training.progress import progress
from training.provenance import provenance


def label(
    bundle: Annotated[Path, typer.Option(help="a version's folder, or the folder of versions")],
    data: Annotated[
        str,
        typer.Option(
            help="a folder that `prepare` wrote, or one's own log in that layout; spark: its URL will do"
        ),
    ],
    out: Annotated[
        str,
        typer.Option(help="a new parquet file; spark: path or URL of a folder, one that is begun goes on"),
    ],
    labels: Annotated[str | None, typer.Option(help="names, separated by commas; by default all")] = None,
    engine: Engine = "single",
    master: Master = None,
    remote: Remote = None,
    figures: Json = None,
) -> None:
    """Write the labels of a whole log of any size, to train a model of one's own on."""
    began = time.monotonic()
    names = [name.strip() for name in labels.split(",")] if labels is not None else []
    note = {f"reelrank.{name}": value for name, value in provenance().items()}
    with progress() as report:

        def on_progress(share: float) -> None:
            report("label", share)

        if engine == "spark":
            from training import spark

            with spark.spark_session(master, remote) as session:
                summary = spark.label_log(
                    session,
                    version_folder(bundle),
                    data,
                    out,
                    labels=names,
                    note=note,
                    on_progress=on_progress,
                )
        else:
            refuse_cluster(master, remote)
            summary = label_log(
                open_bundle(bundle), Path(data), Path(out), labels=names, note=note, on_progress=on_progress
            )
    seconds = round(time.monotonic() - began, 1)
    write_json(figures, {**provenance(), **summary._asdict(), "seconds": seconds})
    typer.echo(f"{summary.rows:,} rows, bundle {summary.version}: {', '.join(summary.labels)}")
    typer.echo(f"wrote {out} in {seconds} s" if summary.rows else f"nothing to do in {out}")
