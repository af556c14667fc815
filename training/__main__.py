"""`python -m training`: logs in, bundles out. One verb, one command."""

from __future__ import annotations

import json
import signal
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, ClassVar, NoReturn

import typer

from models.errors import BadInput, ReelrankError
from models.store import BundleStore
from training.command_line import Data, Json, Seed, print_metrics, write_json
from training.engine_options import Engine, Master, Remote, refuse_cluster
from training.export.promotion import (
    DEFAULT,
    promote_version,
    requirements_table,
    unmet_by_default,
)
from training.lazy_commands import LazyGroup
from training.own_log_options import Columns, MainTab, MappingFile, Users, UtcOffset, Videos

BUNDLES = Path(__file__).parents[1] / "models" / "bundles"
EXTRA = {
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "polars",
    "matplotlib",
    "lightgbm",
    "torchjd",
    "optuna",
    "duckdb",
    "scipy",
}
"""Modules that the extra `train` installs, and ONNX Runtime."""


class Commands(LazyGroup):
    """The commands, those of other modules imported when they are run."""

    lazy: ClassVar = {
        "audit": (
            "training.experiments.audit_command:audit",
            "Report what is shown more than the log has it, and who gets less.",
        ),
        "backfill": (
            "training.export.backfill_command:backfill_command",
            "Label a log of many partitions by a new bundle, and report what changes.",
        ),
        "bench": (
            "training.bench.commands:app",
            "Measure the expensive steps and the exported graphs, as JSON.",
        ),
        "check": (
            "training.check.commands:check",
            "Find everything that is wrong with a log, and describe it. Nothing is fitted.",
        ),
        "compare": (
            "training.experiments.commands:app",
            "Compare methods of a kind on one log, with error bars.",
        ),
        "fit": (
            "training.train.commands:fit",
            "Fit a recipe, evaluate it on days it has not seen, and fit it again on all days for release.",
        ),
        "forget": (
            "training.train.forget_command:forget",
            "Take what unlearning ledgers name out of a run's tables, or with --retrain out of all of it.",
        ),
        "label": (
            "training.export.label_command:label",
            "Write the labels of a whole log of any size, to train a model of one's own on.",
        ),
        "estimate": (
            "training.served_estimates.commands:estimate",
            "Estimate what a bundle would have earned, from a service's log.",
        ),
        "experiment": (
            "training.experiments.served_experiment:experiment",
            "Report how the arms of a service's experiment differ, from its log.",
        ),
        "render": (
            "training.experiments.commands:render",
            "Render a report again from its JSON, without fitting anything.",
        ),
        "validate": (
            "training.experiments.validation.commands:app",
            "Estimates and experiments on data whose truth is known.",
        ),
    }


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn logs into bundles: prepare, fit, evaluate, export, promote.",
)

Bundles = Annotated[Path, typer.Option(help="the folder of versions")]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="also if it predicts watch time worse than a constant does, or fails a requirement"
    ),
]
Require = Annotated[
    Path | None,
    typer.Option(help="a file of requirements that must be met before, or `default` for those that ship"),
]


def _print_version(show: bool) -> None:
    if show:
        typer.echo(installed_version("reelrank"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn logs into bundles: prepare, fit, evaluate, export, promote."""


@app.command()
def fetch(
    dataset: Annotated[str, typer.Argument(help="kuairand-pure")],
    out: Annotated[Path, typer.Option(help="where the files go")] = Path("downloads"),
    url: Annotated[str | None, typer.Option(help="another address; give the archive's checksum too")] = None,
    md5: Annotated[str | None, typer.Option(help="of the archive")] = None,
    sha256: Annotated[str | None, typer.Option(help="of the archive")] = None,
) -> None:
    """Download a data set from its authors, resuming what is there already."""
    from training import data

    typer.echo(f"wrote {data.fetch(dataset, out, url=url, md5=md5, sha256=sha256)}")


@app.command()
def prepare(
    dataset: Annotated[
        str, typer.Option(help="own, a published data set, or synthetic; a wrong name lists them")
    ],
    out: Annotated[Path, typer.Option(help="a new folder")],
    source: Annotated[
        str | None,
        typer.Option(
            help="the data set's files; for own a file, a folder, a quoted pattern, or with spark a URL; for "
            "synthetic a config.json, or nothing"
        ),
    ] = None,
    columns: Columns = None,
    mapping: MappingFile = None,
    videos: Videos = None,
    users: Users = None,
    utc_offset: UtcOffset = None,
    main_tab: MainTab = None,
    seed: Seed = 0,
    forget: Annotated[
        list[Path] | None,
        typer.Option(
            help="a ledger of `python -m service ledger --json`: leave out what it names; repeatable"
        ),
    ] = None,
    engine: Engine = "single",
    master: Master = None,
    remote: Remote = None,
    figures: Json = None,
) -> None:
    """Turn a data set's files into DATA: checked, in seconds, without duplicates."""
    from training import data

    own = data.OwnLog(videos, users, mapping, tuple(columns or ()), utc_offset, main_tab)
    if engine == "spark":
        from training import spark

        if dataset != "own" or source is None or forget:
            raise BadInput("--engine spark is for --dataset own with a --source, and without --forget.")
        with spark.spark_session(master, remote) as session:
            summary = spark.prepare_own(session, source, out, own, report=typer.echo)
    else:
        refuse_cluster(master, remote)
        files = None if source is None else Path(source)
        summary = data.prepare(
            dataset, files, out, seed=seed, forget=forget or (), own=own, report=typer.echo
        )
    write_json(figures, json.loads(summary.model_dump_json()))
    typer.echo(str(summary))
    typer.echo(f"wrote {out}" if summary.files else f"nothing to do in {out}")


@app.command()
def evaluate(
    data: Data,
    bundle: Annotated[Path | None, typer.Option(help="a version's folder, or the folder of versions")] = None,
    run_folder: Annotated[Path | None, typer.Option("--run", help="a run: its evaluation fit")] = None,
    start: Annotated[str | None, typer.Option("--from", help="first day, YYYY-MM-DD")] = None,
    end: Annotated[str | None, typer.Option("--to", help="last day, inclusive")] = None,
    tab: Annotated[str | None, typer.Option(help="evaluate this tab alone; by default all rows")] = None,
    allow_seen: Annotated[
        bool, typer.Option(help="evaluate rows the weights have seen, and report so")
    ] = False,
    figures: Json = None,
) -> None:
    """Evaluate a bundle or a run on a window: rows before it are history only, rows in it are scored."""
    from training.data import load
    from training.evaluation.report import evaluate_bundle, evaluate_run
    from training.progress import progress
    from training.provenance import provenance

    if (bundle is None) == (run_folder is None):
        raise BadInput("give one of --bundle and --run.")
    dataset = load(data)
    with progress() as report:
        if bundle is not None:
            found = evaluate_bundle(
                bundle,
                dataset,
                start,
                end,
                tab,
                allow_seen=allow_seen,
                on_step=lambda share: report("score", share),
            )
        else:
            assert run_folder is not None
            found = evaluate_run(run_folder, dataset, start, end, tab, allow_seen=allow_seen)
    write_json(figures, {**provenance(), **found})
    metrics = {k: v for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    print_metrics(metrics, found["by_tab"], found["baselines"])
    if found["seen"]:
        typer.echo("the weights have SEEN rows of this window: these figures say nothing about new days.")
    if figures:
        typer.echo(f"wrote {figures}")


@app.command()
def export(
    run_folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="what `fit` wrote; or a version's folder, for `--layout triton`",
        ),
    ],
    to: Bundles = BUNDLES,
    layout: Annotated[
        str, typer.Option(help="`bundle`, or `triton`: a bundle as a model repository")
    ] = "bundle",
    which: Annotated[
        str, typer.Option(help="`final` for the release fit, or `evaluation`: the fit before the test days")
    ] = "final",
    data: Annotated[
        Path | None, typer.Option(help="what the run was fitted on: lets the service measure drift")
    ] = None,
    allow_unlearned: Annotated[
        bool,
        typer.Option(
            "--allow-unlearned",
            help="export labels that hardly moved or are not better than labels that were not learned; the "
            "manifest says so",
        ),
    ] = False,
    promoted: Annotated[
        bool, typer.Option("--promote", help="make it the active version, as `promote` does")
    ] = False,
    require: Require = None,
    force: Force = False,
    figures: Json = None,
) -> None:
    """Write a run's weights as one immutable bundle. `promote` makes it the active one."""
    from training.data import load
    from training.export.run import export_run
    from training.export.triton import lay_out

    if layout == "triton":
        typer.echo(f"wrote {lay_out(run_folder, to)}, a model repository")
        return
    if layout != "bundle":
        raise BadInput(f"--layout must be bundle or triton, found {layout!r}.")
    dataset = None if data is None else load(data)
    folder = export_run(run_folder, which, to, dataset, allow_unlearned=allow_unlearned)
    size = sum(f.stat().st_size for f in folder.iterdir())
    write_json(figures, {"version": folder.name, "folder": str(folder), "bytes": size})
    typer.echo(f"wrote {folder} ({size / 1e6:.1f} MB)")
    unmet: list[str] = []
    if require is None or not promoted:
        table, unmet = requirements_table(folder.name, to, require or DEFAULT)
        typer.echo(table)
    if promoted:
        promote_version(folder.name, to, require=require, force=force, on_note=typer.echo)
        typer.echo(f"{to / 'CURRENT'} names {folder.name}")
        if unmet:
            typer.echo(unmet_by_default(folder.name, unmet), err=True)


@app.command("reference")
def add_reference(
    version: Annotated[Path, typer.Argument(metavar="BUNDLE", help="one version's folder")],
    data: Data,
    to: Bundles = BUNDLES,
) -> None:
    """Write a bundle once more, with what its graphs answer on the rows it was fitted on, for drift."""
    from training.data import load
    from training.export.drift_reference import republish
    from training.progress import progress

    with progress() as report:
        folder = republish(version, load(data), to, lambda share: report("reference", share))
    typer.echo(f"wrote {folder}")


@app.command()
def promote(version: str, bundles: Bundles = BUNDLES, require: Require = None, force: Force = False) -> None:
    """Make a version the active one. Running services take it over."""
    promote_version(version, bundles, require=require, force=force, on_note=typer.echo)
    typer.echo(f"{bundles / 'CURRENT'} names {version}")


@app.command()
def rollback(
    version: Annotated[str | None, typer.Argument(help="which; by default the one active before")] = None,
    bundles: Bundles = BUNDLES,
) -> None:
    """Make the version that was active before the active one again."""
    store = BundleStore(bundles)
    if version is None:
        version = store.rollback()
    else:
        store.promote(version)
    typer.echo(f"{bundles / 'CURRENT'} names {version}")


@app.command("card")
def show_card(bundles: Bundles = BUNDLES) -> None:
    """Print the active bundle's metrics as Markdown, for a README."""
    from training.export.model_card import card

    typer.echo(card(bundles), nl=False)


def _terminate(signal_number: int, frame: object) -> NoReturn:
    """Unwind as Ctrl-C does, so that nothing half-written is left."""
    raise SystemExit(128 + signal_number)


def main() -> None:
    """Run a command; an error of the user's ends in one line and exit code 2."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        app(standalone_mode=True)
    except ReelrankError as e:
        typer.echo(f"error: {e}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        typer.echo(
            f"error: training needs the extra `train` ({missing} is not installed): "
            "pip install 'reelrank[train,cpu]'",
            err=True,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped; nothing half-written was left", err=True)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
