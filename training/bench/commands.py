"""`python -m training bench …`: the commands are the benchmarks themselves, their results are printed."""

from __future__ import annotations

import json
from typing import Any

import typer

from training import bench
from training.provenance import provenance


def _print_json(result: dict[str, Any]) -> None:
    typer.echo(json.dumps({**provenance(), **result}, indent=1))


app = typer.Typer(
    no_args_is_help=True,
    result_callback=_print_json,
    help="Measure the expensive steps and the exported graphs, as JSON.",
)
app.command("meta-step")(bench.bench_meta_step)
app.command("soft-topk")(bench.bench_soft_topk)
app.command("encoder")(bench.bench_encoder)
app.command("graphs")(bench.bench_graphs)
app.command("precision")(bench.bench_precision)
