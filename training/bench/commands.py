"""`python -m training bench …`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from models.errors import BadInput
from training import bench
from training import data as datasets
from training.evaluation.evaluate import parse_window, version_folder
from training.provenance import provenance

app = typer.Typer(no_args_is_help=True, help="What the expensive steps and the graphs cost, as JSON.")
BUNDLES = Path(__file__).parents[2] / "models" / "bundles"

Seed = Annotated[int, typer.Option(help="decides everything that is drawn")]
Repeats = Annotated[int, typer.Option(min=1, help="timed runs; the median is shown")]


@app.command("meta-step")
def bench_meta_step(
    batch: Annotated[int, typer.Option(min=1, help="rows of the inner step")] = 4096,
    history: Annotated[int, typer.Option(min=1, help="steps of each row")] = 100,
    users: Annotated[int, typer.Option(min=1, help="hold-out users of the outer step")] = 494,
    candidates: Annotated[int, typer.Option(min=11, help="of each")] = 60,
    repeats: Repeats = 5,
    seed: Seed = 0,
) -> None:
    """One mini-batch of LabelCraft's two levels, on made-up ids."""
    _print(bench.bench_meta_step(batch, history, users, candidates, repeats, seed))


@app.command("soft-topk")
def bench_soft_topk(
    users: Annotated[int, typer.Option(min=1)] = 494,
    candidates: Annotated[int, typer.Option(min=2)] = 60,
    k: Annotated[int, typer.Option(min=1, help="places of the slate; below the candidates")] = 10,
    repeats: Repeats = 10,
    seed: Seed = 0,
) -> None:
    """SOFT top-k of one padded batch of users, forward and backward."""
    if k >= candidates:
        raise BadInput(f"--k must be below --candidates, found {k} and {candidates}.")
    _print(bench.bench_soft_topk(users, candidates, k, repeats, seed))


@app.command("encoder")
def bench_encoder(
    batch: Annotated[int, typer.Option(min=1, help="users")] = 1,
    candidates: Annotated[int, typer.Option(min=1, help="of each")] = 200,
    history: Annotated[int, typer.Option(min=0, help="steps of each")] = 50,
    repeats: Repeats = 20,
    seed: Seed = 0,
) -> None:
    """The served encoder in torch, forward alone."""
    _print(bench.bench_encoder(batch, candidates, history, repeats, seed))


@app.command("graphs")
def bench_graphs(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="a version's folder, or the folder of versions; repeat it to compare"),
    ] = None,
    candidates: Annotated[int, typer.Option(min=0, help="of one user")] = 200,
    history: Annotated[int, typer.Option(min=0, help="steps of that user")] = 50,
    rows: Annotated[int, typer.Option(min=0, help="exposures the labeler is called with")] = 100,
    repeats: Repeats = 500,
    threads: Annotated[int, typer.Option(min=1, help="of ONNX Runtime within a call")] = 1,
    profile: Annotated[bool, typer.Option(help="also the time of each kind of operator")] = False,
    seed: Seed = 0,
) -> None:
    """One bare call of each graph of a bundle; several bundles take turns."""
    folders = [version_folder(path) for path in bundle or [BUNDLES]]
    found = bench.bench_graphs(
        folders,
        candidates=candidates,
        history=history,
        rows=rows,
        repeats=repeats,
        threads=threads,
        profile=profile,
        seed=seed,
    )
    _print(found)


@app.command("precision")
def bench_precision(
    data: Annotated[Path, typer.Option(help="a folder that `prepare` wrote")],
    start: Annotated[str, typer.Option("--from", help="first day that is judged, YYYY-MM-DD")],
    end: Annotated[str, typer.Option("--to", help="last day, inclusive")],
    bundle: Annotated[Path, typer.Option(help="a version's folder, or the folder of versions")] = BUNDLES,
    repeats: Repeats = 300,
    seed: Seed = 0,
) -> None:
    """The ranker in float32, float16 and int8: time of a call beside what it costs in figures."""
    dataset = datasets.load(data)
    window = parse_window(dataset, 0, start, end, allow_seen=True)
    _print(bench.bench_precision(version_folder(bundle), dataset, window, repeats=repeats, seed=seed))


def _print(found: dict[str, Any]) -> None:
    typer.echo(json.dumps({**provenance(), **found}, indent=1))
