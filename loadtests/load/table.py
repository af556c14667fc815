"""A report of the load as the tables of a README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadtests.load.plays import OVERLOAD, START
from loadtests.load.scenarios import P99_MS


def load_table(report: Mapping[str, Any]) -> str:
    """Markdown of one report of `loadtests.load`, ending with a newline."""
    found = report["figures"]
    parts = [
        f"`{report['command']}`, {report['date']}, commit `{report['commit']}`, bundle `{report['bundle']}`, "
        f"{report['machine']}; {report['seconds']:.0f} s{_others(report['others_share'])}. "
        f"With nothing else to do, its cores stood still for {report['stalls']['share']:.1%} of the time, "
        f"{report['stalls']['longest_ms']:.0f} ms at the longest."
    ]
    rows = [_row(name, figures) for name, figures in found.items() if name not in (START, OVERLOAD)]
    if rows:
        parts.append(
            "\n".join(
                [
                    f"| | most/s | p99 < {P99_MS:g} ms up to /s | at half: p50 | p99 | p99.9 ms | errors | |",
                    "|---|---|---|---|---|---|---|---|",
                    *rows,
                ]
            )
        )
    parts += [_overload(found[OVERLOAD])] if OVERLOAD in found else []
    parts += [_start(found[START])] if START in found else []
    if report["budgets"]:
        parts.append("\n".join(["| budget | should be | is | |", "|---|---|---|---|", *_verdicts(report)]))
    return "\n\n".join(parts) + "\n"


def _others(share: float | None) -> str:
    return "" if share is None else f", in which other programs took {share:.0%} of the cores"


def _row(name: str, figures: Mapping[str, Any]) -> str:
    half = figures["half"]
    ms = half["ms"]
    capacity = (
        "none" if "capacity" in figures and figures["capacity"] is None else figures.get("capacity", "")
    )
    cells = (
        name,
        f"{figures['most']:,.0f}",
        f"{capacity:,.0f}" if isinstance(capacity, float) else capacity,
        *(f"{ms[q]:.1f}" if ms else "-" for q in ("p50", "p99", "p99.9")),
        f"{half['errors']:.2%}",
        _note(figures),
    )
    return f"| {' | '.join(cells)} |"


def _note(figures: Mapping[str, Any]) -> str:
    notes = {
        "events_per_s": "{:,.0f} events/s",
        "over_bare_ms": "one connection: {one_connection_ms:.2f} ms, the bare call {bare_call_ms:.2f} ms",
        "unfinished": "{:.0f} unfinished",
        "first_users_share": "{:.0%} by one user",
        "failed": "{:.0f} failed, p99 {p99_ratio}x of a quiet run",
        "different": "{:,} requests",
    }
    return "; ".join(text.format(figures[key], **figures) for key, text in notes.items() if key in figures)


def _overload(figures: Mapping[str, Any]) -> str:
    twice = figures["twice"]
    answers = ", ".join(f"{status}: {count:,}" for status, count in twice["statuses"].items())
    p50, p99 = (f"{twice['ms'][q]:.1f}" if twice["ms"] else "-" for q in ("p50", "p99"))
    return (
        f"Asked for {figures['times_most']:g} times the most ({figures['most']:,.0f}/s): "
        f"{twice['goodput']:,.0f}/s answered well, {figures['goodput_share']:.0%} of it; answers {answers}; "
        f"the good ones p50 {p50}, p99 {p99} ms; the driver sent {twice['driver_late_ms']:.1f} ms late (p99)."
    )


def _start(figures: Mapping[str, Any]) -> str:
    return (
        f"Ready {figures['ready_s']:.2f} s after the start (median of {figures['starts']}); the first "
        f"request takes {figures['first_ms']:.1f} ms, those after it {figures['later_ms']:.1f} ms."
    )


def _verdicts(report: Mapping[str, Any]) -> list[str]:
    rows = []
    for verdict in report["budgets"]:
        found = "-" if verdict["found"] is None else f"{verdict['found']:,g}"
        outcome = "met" if verdict["met"] else f"**missed by {verdict['missed_by']}**"
        rows.append(f"| {verdict['what']} | {verdict['bound']} | {found} | {outcome} |")
    return rows
