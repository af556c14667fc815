"""What commands share: options, and how figures are written and printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[Path, typer.Option(help="a folder that `prepare` wrote, or one's own log in that layout")]
Json = Annotated[Path | None, typer.Option("--json", help="write the figures here for machines")]
Seed = Annotated[int, typer.Option(help="decides everything that is drawn")]


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures for machines, if a file is named."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")


def print_metrics(metrics: dict[str, Any], by_tab: dict[str, Any], baselines: dict[str, Any]) -> None:
    """Print the metrics of an evaluation, a line each."""
    for name, value in metrics.items():
        typer.echo(f"{name:24} {value:.4f}" if isinstance(value, float) else f"{name:24} {value}")
    for tab, of_tab in by_tab.items():
        typer.echo(
            f"tab {tab}: mae_s {of_tab['mae_s']:.3f}, xauc {of_tab['xauc']:.4f}, rows {of_tab['rows']}"
        )
    for name, errors in baselines.items():
        typer.echo(f"{name}: " + ", ".join(f"{k} {v:.3f}" for k, v in errors.items() if v is not None))
