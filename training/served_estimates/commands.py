"""`python -m training estimate`: what a bundle would have earned, from the log of the one that served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from models.errors import BadInput
from training.command_line import write_json
from training.evaluation.evaluate import open_bundle
from training.experiments.render import estimate as with_interval
from training.progress import progress
from training.provenance import provenance
from training.served_estimates.estimate import POSITIONS, estimate_bundle


def estimate(
    log: Annotated[Path, typer.Option(help="the folder that a service wrote as REELRANK_LOG_DIR")],
    bundle: Annotated[Path, typer.Option(help="a version's folder, or the folder of versions")],
    weights: Annotated[
        Path | None, typer.Option(help="fusion weights as JSON, by default the bundle's")
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(help="a videos.parquet, as `prepare` writes it: facts of candidates without any event"),
    ] = None,
    reward: Annotated[
        str, typer.Option(help="what a shown video earns; a wrong one lists them")
    ] = "watch_time_s",
    positions: Annotated[int, typer.Option(min=1, help="the first ones of each slate count")] = POSITIONS,
    seed: Annotated[int, typer.Option(min=0, help="of draws and resamples")] = 0,
    figures: Annotated[
        Path | None, typer.Option("--json", help="write the figures here for machines")
    ] = None,
) -> None:
    """Estimate what a bundle or other weights would have earned on slates that were explored."""
    opened, given = open_bundle(bundle), None if weights is None else _read_weights(weights)
    with progress() as show:
        found = estimate_bundle(
            log,
            opened,
            given,
            videos=None if videos is None else _read_videos(videos),
            reward=reward,
            positions=positions,
            seed=seed,
            on_progress=lambda share: show("slates", share),
        )
    write_json(figures, provenance() | found)
    if found["refused"] is not None:
        raise BadInput(f"no estimate: {found['refused']}")
    typer.echo(_table(found))


def _read_weights(path: Path) -> dict[str, float]:
    try:
        content = json.loads(path.read_text())
        return {str(name): float(weight) for name, weight in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as e:
        raise BadInput(f'{path} holds no weights ({e}); write them as {{"watch_time": 1.0}}.') from None


def _read_videos(path: Path) -> pl.DataFrame:
    columns = ("video_id", "duration_s", "author_id", "tag")
    try:
        return pl.read_parquet(path, columns=list(columns))
    except (OSError, pl.exceptions.PolarsError) as e:
        reason = str(e).splitlines()[0]
        raise BadInput(f"{path} is no parquet file with {', '.join(columns)} ({reason}).") from None


def _table(found: dict[str, Any]) -> str:
    logged = found["logged"]
    lines = [
        f"{found['reward']} of the first {found['positions']} positions, {found['slates']:,} slates of "
        f"{found['users']:,} users",
        f"{'the log itself':32}{with_interval(logged['value'], logged['interval'])}",
    ]
    for row in found["estimates"]:
        gain = with_interval(row["difference"], row["difference_interval"], form="+")
        lines.append(f"{row['method']:32}{with_interval(row['value'], row['interval'])}  {gain}")
    overlap = found["overlap"]
    lines.append(
        f"effective sample size {overlap['effective_sample_size']:,.0f}, largest weight "
        f"{overlap['max_weight']:.3g}, support {overlap['support']:.0%}; whole histories "
        f"{found['whole_histories']:.0%}, known candidates {found['known_candidates']:.0%}"
    )
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in found["left_out"].items())
    return "\n".join([*lines, *([f"left out: {left_out}"] if left_out else [])])
