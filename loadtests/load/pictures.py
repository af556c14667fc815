"""`python -m loadtests.load.pictures REPORT --to FOLDER`: a report of `loadtests.load`, drawn.

A command of its own, because drawing needs matplotlib (the extra `pictures`) and the load does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loadtests.command import make_app, run
from loadtests.load.scenarios import OVERLOAD
from models.errors import BadInput

LATENCY: Final = "latency.png"
OVER_TIME: Final = "overload.png"
NINES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
SIZE: Final = (10.5, 5.0)
DPI: Final = 110


def main(
    report: Annotated[Path, typer.Argument(help="The file of `python -m loadtests.load --json`.")],
    to: Annotated[Path, typer.Option(help="The folder for the pictures.")],
) -> None:
    """Draw latency by percentile, and the overload second by second."""
    try:
        figures = json.loads(report.read_text())["figures"]
    except (OSError, ValueError, KeyError) as e:
        raise BadInput(f"{report} is no report of loadtests.load: {e!r}.") from None
    to.mkdir(parents=True, exist_ok=True)
    for picture in draw(figures, to):
        print(picture)


def draw(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the pictures that the scenarios of a report allow; return their files."""
    import matplotlib

    matplotlib.use("Agg")
    halves = {name: row for name, row in figures.items() if "half" in row}
    curves = {name: row.get("twice", row["half"])["curve"] for name, row in halves.items()}
    pictures = [_draw_latency(curves, folder / LATENCY)] if any(curves.values()) else []
    if OVERLOAD in figures:
        pictures.append(_draw_overload(figures[OVERLOAD], folder / OVER_TIME))
    return pictures


def _draw_latency(curves: Mapping[str, list[tuple[float, float]]], path: Path) -> Path:
    """One line a scenario; every nine has the same width."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=SIZE, dpi=DPI, layout="constrained")
    for number, (name, curve) in enumerate(curves.items()):
        points = [(1 / (1 - q / 100), ms) for q, ms in curve if 0 < q < 100]
        style = ("-", "--")[number // 10 % 2]
        axes.plot([x for x, _ in points], [ms for _, ms in points], label=name, linestyle=style)
    axes.set(xscale="log", yscale="log", xlabel="percentile", ylabel="ms from when a request was due")
    highest = max((q for curve in curves.values() for q, _ in curve if q < 100), default=50)
    nines = [q for q in NINES if q <= highest]
    axes.set_xticks([1 / (1 - q / 100) for q in nines], [f"{q:g}" for q in nines])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.set_title(f"Latency at half of the maximum throughput, open loop ({OVERLOAD}: at twice)")
    figure.legend(fontsize="small", loc="outside right upper")
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
    return path


def _draw_overload(row: Mapping[str, Any], path: Path) -> Path:
    """Replies by the second in which requests were due, and the p99 of the good ones."""
    from matplotlib import pyplot as plt

    seconds = [second["second"] for second in row["by_second"]]
    figure, (above, below) = plt.subplots(2, sharex=True, figsize=SIZE, dpi=DPI, layout="constrained")
    bottom = [0] * len(seconds)
    for name, label, color in (
        ("good", "200", "green"),
        ("refused", "429", "orange"),
        ("wrong", "other", "red"),
    ):
        counts = [second[name] for second in row["by_second"]]
        above.bar(seconds, counts, bottom=bottom, label=label, color=f"tab:{color}")
        bottom = [b + count for b, count in zip(bottom, counts, strict=True)]
    above.axhline(row["most"], color="black", linestyle=":", label="maximum throughput")
    above.set(ylabel="requests due in this second", title="Twice the maximum throughput")
    p99_ms = [second["p99_ms"] for second in row["by_second"]]
    below.plot(seconds, p99_ms, marker="o", color="tab:green", label="p99 of 200s")
    if row["half"]["ms"]:
        below.axhline(row["half"]["ms"]["p99"], color="black", linestyle=":", label="p99 at half")
    below.set(xlabel="second", ylabel="ms", ylim=(0, None))
    below.grid(alpha=0.3)
    figure.legend(fontsize="small", loc="outside right upper")
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
    return path


app = make_app("pictures", main)

if __name__ == "__main__":
    run(app)
