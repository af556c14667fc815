"""`python -m training`: logs in, bundles out. One verb, one command."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from models.errors import BadInput, ReelrankError
from models.store import BundleStore
from training import data as datasets
from training.bench.commands import app as bench_app
from training.compare.audit.commands import audit
from training.compare.commands import app as compare_app
from training.evaluation import evaluate as judging
from training.export.batch_label import label_log
from training.export.bundle import export as write_bundle
from training.export.drift_reference import reference, republish, same_log
from training.export.model_card import card
from training.export.triton import lay_out
from training.progress import progress
from training.provenance import provenance
from training.train import recipes
from training.train import run_folder as run

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(bench_app, name="bench")
app.add_typer(compare_app, name="compare")
app.command("audit")(audit)
BUNDLES = Path(__file__).parents[1] / "models" / "bundles"

Data = Annotated[Path, typer.Option(help="a folder that `prepare` wrote, or one's own log in that layout")]
Json = Annotated[Path | None, typer.Option("--json", help="write the figures here for machines")]
Seed = Annotated[int, typer.Option(help="decides everything that is drawn")]
Bundles = Annotated[Path, typer.Option(help="the folder of versions")]


@app.command()
def fetch(
    dataset: Annotated[str, typer.Argument(help="kuairand-pure")],
    out: Annotated[Path, typer.Option(help="where the files go")] = Path("downloads"),
    url: Annotated[str | None, typer.Option(help="another address; give the archive's checksum too")] = None,
    md5: Annotated[str | None, typer.Option(help="of the archive")] = None,
    sha256: Annotated[str | None, typer.Option(help="of the archive")] = None,
) -> None:
    """Download a data set from its authors, resuming what is there already."""
    typer.echo(f"wrote {datasets.fetch(dataset, out, url=url, md5=md5, sha256=sha256)}")


@app.command()
def prepare(
    dataset: Annotated[str, typer.Option(help=", ".join((*datasets.READERS, *datasets.STREAMED)))],
    out: Annotated[Path, typer.Option(help="a new folder")],
    source: Annotated[
        Path | None, typer.Option(help="the data set's files; for synthetic a config.json, or nothing")
    ] = None,
    seed: Seed = 0,
    forget: Annotated[
        list[Path] | None,
        typer.Option(help="a ledger of `python -m service ledger --json`: leave its users out; repeatable"),
    ] = None,
    figures: Json = None,
) -> None:
    """Turn a data set's files into DATA: checked, in seconds, without duplicates."""
    summary = datasets.prepare(dataset, source, out, seed=seed, forget=forget or ())
    _figures(figures, json.loads(summary.model_dump_json()))
    typer.echo(str(summary))
    typer.echo(f"wrote {out}")


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help=", ".join(recipes.__all__))],
    data: Data,
    out: Annotated[Path, typer.Option(help="a new folder for the run")],
    seed: Seed = 0,
    threads: Annotated[int, typer.Option(help="of torch; 0 leaves it to torch")] = 0,
    figures: Json = None,
) -> None:
    """Fit a recipe, judge it on the days it has not seen, and fit it again on all days."""
    if recipe not in recipes.__all__:
        raise BadInput(f"there is no recipe {recipe!r}; there are {', '.join(recipes.__all__)}.")
    if threads:
        torch.set_num_threads(threads)
    config = getattr(recipes, recipe)().model_copy(update={"seed": seed})
    with progress() as report:
        evaluation = run.fit(datasets.load(data), recipe, config, out, report)
    _figures(figures, {**provenance(), **evaluation.model_dump()})
    _table(evaluation.metrics, evaluation.by_tab, evaluation.baselines)
    typer.echo(f"wrote {out}")


@app.command()
def evaluate(
    data: Data,
    bundle: Annotated[Path | None, typer.Option(help="a version's folder, or the folder of versions")] = None,
    run_folder: Annotated[
        Path | None, typer.Option("--run", help="a run: its fit before the test days")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="first day, YYYY-MM-DD")] = None,
    end: Annotated[str | None, typer.Option("--to", help="last day, inclusive")] = None,
    tab: Annotated[str | None, typer.Option(help="judge this tab alone; by default all rows")] = None,
    allow_seen: Annotated[bool, typer.Option(help="judge rows the weights have seen, and say so")] = False,
    figures: Json = None,
) -> None:
    """Judge a bundle or a run on a window: rows before it are history only, rows in it are scored."""
    if (bundle is None) == (run_folder is None):
        raise BadInput("give one of --bundle and --run.")
    dataset = datasets.load(data)
    with progress() as report:
        if bundle is not None:
            loaded = judging.open_bundle(bundle)
            name, watermark = loaded.manifest.version, loaded.manifest.training.watermark_ms
            window = judging.window_of(dataset, watermark, start, end, allow_seen=allow_seen)
            log = dataset.interactions(loaded.vocabulary, loaded.manifest.profile_numbers)
            found = judging.evaluate(
                dataset,
                log,
                lambda rows: judging.answers_with(loaded, log, rows, lambda share: report("score", share)),
                tabs=loaded.vocabulary.fields["tab"],
                weights=loaded.manifest.weights,
                window=window,
                tab=tab,
            )
        else:
            assert run_folder is not None
            saved = run.read(run_folder, "judged")
            name, watermark = str(run_folder), saved.watermark_ms
            window = judging.window_of(dataset, watermark, start, end, allow_seen=allow_seen)
            log = dataset.interactions(saved.fitted.vocabulary)
            length = saved.config.loop.sequence_length
            found = judging.evaluate(
                dataset,
                log,
                lambda rows: judging.answers_of(saved.fitted.ranker, log, rows, length),
                tabs=saved.fitted.vocabulary.fields["tab"],
                weights=saved.fitted.weights,
                window=window,
                tab=tab,
            )
    found = {**provenance(), "judged": name, "seen": window[0] <= watermark, **found}
    _figures(figures, found)
    flat = {k: v for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    _table(flat, found["by_tab"], found["baselines"])
    if found["seen"]:
        typer.echo("the weights have SEEN rows of this window: these figures say nothing about new days.")
    if figures:
        typer.echo(f"wrote {figures}")


@app.command()
def label(
    bundle: Annotated[Path, typer.Option(help="a version's folder, or the folder of versions")],
    data: Data,
    out: Annotated[Path, typer.Option(help="a new parquet file")],
    labels: Annotated[str | None, typer.Option(help="names, separated by commas; by default all")] = None,
    figures: Json = None,
) -> None:
    """Write the labels of a whole log of any size, for a model of one's own to be trained on."""
    began = time.monotonic()
    asked = [name.strip() for name in labels.split(",")] if labels is not None else []
    with progress() as report:
        made = label_log(
            judging.open_bundle(bundle),
            data,
            out,
            labels=asked,
            note={f"reelrank.{name}": value for name, value in provenance().items()},
            on_progress=lambda share: report("label", share),
        )
    seconds = round(time.monotonic() - began, 1)
    _figures(figures, {**provenance(), **made._asdict(), "seconds": seconds})
    typer.echo(f"{made.rows:,} rows, bundle {made.version}: {', '.join(made.labels)}")
    typer.echo(f"wrote {out} in {seconds} s")


@app.command()
def export(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="what `fit` wrote; for `--layout triton` a version's folder")
    ],
    to: Bundles = BUNDLES,
    layout: Annotated[
        str, typer.Option(help="`bundle`, or `triton`: a bundle as a model repository")
    ] = "bundle",
    which: Annotated[str, typer.Option(help="`final`, or `judged`: the fit before the test days")] = "final",
    data: Annotated[
        Path | None, typer.Option(help="what the run was fitted on: the service can then tell drift")
    ] = None,
    figures: Json = None,
) -> None:
    """Write a run's weights as one immutable bundle. `promote` makes it the active one."""
    if layout == "triton":
        typer.echo(f"wrote {lay_out(run_folder, to)}, a model repository")
        return
    if layout != "bundle":
        raise BadInput(f"--layout must be bundle or triton, found {layout!r}.")
    if which not in ("final", "judged"):
        raise BadInput(f"--which must be final or judged, found {which!r}.")
    saved = run.read(run_folder, "final" if which == "final" else "judged")
    fitted = saved.fitted
    log = (
        None
        if data is None
        else same_log(datasets.load(data), saved.training).interactions(fitted.vocabulary)
    )
    folder = write_bundle(
        fitted.labeler,
        fitted.ranker,
        fitted.vocabulary,
        to,
        training=saved.training.model_copy(update={"watermark_ms": saved.watermark_ms}),
        weights=fitted.weights,
        sequence_length=saved.config.loop.sequence_length,
        profile_numbers=saved.profile_numbers,
        profile_categories=saved.profile_categories,
        default_tab=saved.default_tab,
        evaluation=saved.evaluation,
        reference=None
        if log is None
        else lambda made: reference(made, log, until_ms=saved.watermark_ms, seed=saved.config.seed),
    )
    size = sum(f.stat().st_size for f in folder.iterdir())
    _figures(figures, {"version": folder.name, "folder": str(folder), "bytes": size})
    typer.echo(f"wrote {folder} ({size / 1e6:.1f} MB)")


@app.command("reference")
def add_reference(
    version: Annotated[Path, typer.Argument(metavar="BUNDLE", help="one version's folder")],
    data: Data,
    to: Bundles = BUNDLES,
) -> None:
    """Write a bundle once more, with what its graphs answer on the rows it was fitted on, for drift."""
    with progress() as report:
        folder = republish(version, datasets.load(data), to, lambda share: report("reference", share))
    typer.echo(f"wrote {folder}")


@app.command()
def promote(version: str, bundles: Bundles = BUNDLES) -> None:
    """Make a version the active one. Running services take it over."""
    BundleStore(bundles).promote(version)
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
    """The active bundle's figures as Markdown, for a README."""
    typer.echo(card(bundles), nl=False)


def _figures(path: Path | None, figures: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")


def _table(metrics: dict[str, Any], by_tab: dict[str, Any], baselines: dict[str, Any]) -> None:
    for name, value in metrics.items():
        typer.echo(f"{name:24} {value:.4f}" if isinstance(value, float) else f"{name:24} {value}")
    for tab, found in by_tab.items():
        typer.echo(f"tab {tab}: mae_s {found['mae_s']:.3f}, xauc {found['xauc']:.4f}, rows {found['rows']}")
    for name, found in baselines.items():
        typer.echo(f"{name}: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items() if v is not None))


def main() -> None:
    """Run a command; what is wrong ends in one line and exit code 2."""
    try:
        app(standalone_mode=True)
    except ReelrankError as e:
        typer.echo(f"error: {e}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped; nothing half-written was left", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
