"""Figures of all rounds -> medians, ratios, a table, and the place in a README where that stands."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from loadtests.peers.servers import OURS

COLUMNS: Final = {
    "rate": ("requests/s", ".0f"),
    "cpu_ms": ("CPU ms a request", ".2f"),
    "p50_ms": ("p50 ms", ".2f"),
    "p99_ms": ("p99 ms", ".2f"),
    "memory_mib": ("memory MiB", ".0f"),
}
"""What is compared, its title, and how it is written."""

BLOCK: Final = re.compile(r"(?<=<!-- peers -->\n).*?(?=<!-- /peers -->)", re.DOTALL)


def summary(workers: int, compared: Mapping[str, Any]) -> dict[str, Any]:
    """One comparison, as it goes into the report.

    Args:
        workers: of each server.
        compared: what `rounds.compare` returned.

    Returns:
        `workers`, `asked_rate`, `servers` (medians, and `rounds`: each round's figures), `ratios` (ours by
        the peer's, by peer and column: the median of the rounds' own ratios, which a busy minute moves less
        than a ratio of medians) and `better` (the peer over which our rate is the smaller `ratio`).
    """
    servers = compared["servers"]
    ratios = {
        name: {column: _ratio(servers[OURS][column], of[column]) for column in COLUMNS}
        for name, of in servers.items()
        if name != OURS
    }
    medians = {
        name: {column: _median(of[column]) for column in COLUMNS}
        | {"rounds": {column: value for column, value in of.items() if isinstance(value, list)}}
        for name, of in servers.items()
    }
    better = min(ratios, key=lambda name: ratios[name]["rate"] or 0.0)
    return {
        "workers": workers,
        "asked_rate": compared["asked_rate"],
        "servers": medians,
        "ratios": ratios,
        "better": {"name": better, "ratio": ratios[better]["rate"]},
    }


def table(report: Mapping[str, Any]) -> str:
    """Markdown of one report of `loadtests.peers`, ending with a newline."""
    asked = report["request"]
    lines = [
        f"`{report['command']}`, {report['date']}, commit `{report['commit']}`, bundle `{report['bundle']}`, "
        f"{report['machine']}: {asked['candidates']} candidates, {asked['events']} events of history, "
        f"{report['connections']} connections, {report['rounds']} turns of {report['seconds']:g} s each.",
    ]
    for run in report["runs"]:
        workers = run["workers"]
        lines += [
            "",
            f"| {workers} worker{'s' * (workers > 1)} each | "
            + " | ".join(title for title, _ in COLUMNS.values())
            + " |",
            "|---" * (1 + len(COLUMNS)) + "|",
        ]
        for name, of in run["servers"].items():
            title = name if name == OURS else f"{name} {report['versions'][name]}"
            lines.append(_row(title, [_cell(of[key], form) for key, (_, form) in COLUMNS.items()]))
        for name, of in run["ratios"].items():
            lines.append(_row(f"{OURS} / {name}", [_cell(of[key], ".2f", "x") for key in COLUMNS]))
        lines += [
            "",
            f"Latencies at {run['asked_rate']:.0f} requests/s for all. {OURS} answers "
            f"**{run['better']['ratio']:.2f} times** as many requests as the better of the two, "
            f"{run['better']['name']}{_of_cpu(run['ratios'])}.",
        ]
    return "\n".join(lines) + "\n"


def placed(text: str, block: str) -> str:
    """A README with the block between its marks `<!-- peers -->` and `<!-- /peers -->`.

    Raises:
        ValueError: it has no such marks.
    """
    placed, count = BLOCK.subn(lambda _: block, text, count=1)
    if not count:
        raise ValueError("has no lines <!-- peers --> and <!-- /peers --> to put the table between")
    return placed


def _median(value: Sequence[float] | float | None) -> float | None:
    return round(statistics.median(value), 3) if isinstance(value, Sequence) else value


def _ratio(ours: Sequence[float] | float | None, theirs: Sequence[float] | float | None) -> float | None:
    """Ours by theirs, round by round; `None` where one of them could not be measured."""
    pairs = zip(_rounds(ours), _rounds(theirs), strict=True)
    found = [one / other for one, other in pairs if one and other]
    return round(statistics.median(found), 3) if found else None


def _rounds(value: Sequence[float] | float | None) -> list[float | None]:
    return list(value) if isinstance(value, Sequence) else [value]


def _of_cpu(ratios: Mapping[str, Mapping[str, float | None]]) -> str:
    """The same for what each of them takes of the processor; nothing where that could not be read."""
    found = {name: of["cpu_ms"] for name, of in ratios.items()}
    took = {name: ratio for name, ratio in found.items() if ratio}
    if not took:
        return ""
    leaner = max(took, key=lambda name: took[name])
    return f"; for a second of CPU {1 / took[leaner]:.2f} times as many, against {leaner}"


def _cell(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _row(title: str, cells: Sequence[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"
