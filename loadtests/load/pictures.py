"""`python -m loadtests.load.pictures REPORT --to FOLDER`: a report of the load, drawn.

A step of its own, because drawing needs matplotlib (the extra `pictures`) and the load needs only what
serving needs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loadtests.load.plays import OVERLOAD

LATENCY: Final = "latency.png"
OVER_TIME: Final = "overload.png"
NINES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
"""Percentiles that the axis names."""
SIZE: Final = (10.5, 5.0)
DPI: Final = 110


def main(
    report: Annotated[Path, typer.Argument(help="What `python -m loadtests.load --json` has written.")],
    to: Annotated[Path, typer.Option(help="The folder for the pictures.")],
) -> None:
    """Draw latency by percentile, and the overload second by second."""
    try:
        found = json.loads(report.read_text())["figures"]
    except (OSError, ValueError, KeyError) as e:
        print(f"pictures: {report} is no report of loadtests.load: {e!r}", file=sys.stderr)
        sys.exit(2)
    to.mkdir(parents=True, exist_ok=True)
    for picture in draw(found, to):
        print(picture)


def draw(found: Mapping[str, Any], to: Path) -> list[Path]:
    """The pictures that the scenarios in the report allow, as PNG files in a folder."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = []
    played = {name: figures for name, figures in found.items() if "half" in figures}
    curves = {name: figures.get("twice", figures["half"])["curve"] for name, figures in played.items()}
    if any(curves.values()):
        drawn.append(_latency(curves, to / LATENCY))
    if OVERLOAD in found:
        drawn.append(_overload(found[OVERLOAD], to / OVER_TIME))
    return drawn


def _latency(curves: Mapping[str, list[tuple[float, float]]], path: Path) -> Path:
    """One line a scenario: the slowest hundredth has as much room as the half."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=SIZE, dpi=DPI, layout="constrained")
    for number, (name, curve) in enumerate(curves.items()):
        points = [(1 / (1 - q / 100), ms) for q, ms in curve if 0 < q < 100]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, label=name, linestyle=("-", "--")[number // 10 % 2], linewidth=1.4)
    axes.set(xscale="log", yscale="log", xlabel="percentile", ylabel="ms from the moment a request was due")
    most = max((q for curve in curves.values() for q, _ in curve if q < 100), default=50)
    nines = [q for q in NINES if q <= most]
    axes.set_xticks([1 / (1 - q / 100) for q in nines], [f"{q:g}" for q in nines])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.set_title(f"Latency at half of the most, at a constant arrival rate ({OVERLOAD}: at twice)")
    figure.legend(fontsize="small", loc="outside right upper")
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
    return path


def _overload(figures: Mapping[str, Any], path: Path) -> Path:
    """What became of the requests of each second, and how long the good ones took."""
    from matplotlib import pyplot as plt

    seconds = figures["by_second"]
    at = [row["second"] for row in seconds]
    good, refused, wrong = ([row[name] for row in seconds] for name in ("good", "refused", "wrong"))
    figure, (above, below) = plt.subplots(2, sharex=True, figsize=SIZE, dpi=DPI, layout="constrained")
    above.bar(at, good, label="200", color="tab:green")
    above.bar(at, refused, bottom=good, label="429", color="tab:orange")
    stacked = [g + r for g, r in zip(good, refused, strict=True)]
    above.bar(at, wrong, bottom=stacked, label="anything else", color="tab:red")
    above.axhline(figures["most"], color="black", linestyle=":", label="the most it carries")
    above.set(ylabel="requests due in this second", title="Twice as many slates as it carries")
    below.plot(at, [row["p99_ms"] for row in seconds], marker="o", color="tab:green", label="p99 of the good")
    if figures["half"]["ms"]:
        below.axhline(figures["half"]["ms"]["p99"], color="black", linestyle=":", label="p99 at half")
    below.set(xlabel="second", ylabel="ms", ylim=(0, None))
    below.grid(alpha=0.3)
    figure.legend(fontsize="small", loc="outside right upper")
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
    return path


if __name__ == "__main__":
    typer.run(main)
