"""Reports of the load tests as the tables and sentences of a README: `python -m loadtests.table FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from loadtests.faults.report import EVERY_SECOND
from loadtests.load.table import load_table

_ROWS: Final = (
    ("POST /rerank, 200 candidates, 50 events of history", "rerank_200_candidates_50_events_ms"),
    ("the bare ranker call on the same arrays", "bare_ranker_call_ms"),
    ("POST /label, 1 event", "label_1_event_ms"),
    ("POST /label, 100 events of 1 user", "label_100_events_of_1_user_ms"),
    ("POST /label, 100 events of 100 users", "label_100_events_of_100_users_ms"),
)


def table(report: dict[str, Any]) -> str:
    """Markdown of one report of `loadtests.bench`, ending with a newline."""
    figures = report["figures"]
    lines = [
        f"`{report['command']}`, {report['date']}, commit `{report['commit']}`, "
        f"bundle `{figures['bundle']}`, {report['machine']}.",
        "",
        "| ms | p50 | p99 |",
        "|---|---|---|",
        *(f"| {title} | {figures[key]['p50']:.2f} | {figures[key]['p99']:.2f} |" for title, key in _ROWS),
        "",
        "Of /rerank, by the service's own clock: "
        + ", ".join(f"{name} {took:.2f}" for name, took in figures["rerank_stages_ms"].items())
        + " ms.",
        *_shares(figures),
        f"Ready {figures['start_to_ready_s']:.2f} s after the start; "
        f"the worker holds {figures['rss_mib']:.0f} MiB.",
    ]
    return "\n".join(lines) + "\n"


def _shares(figures: dict[str, Any]) -> list[str]:
    """What each step takes by itself, and of the request."""
    told = []
    for path, request, steps in (
        ("/rerank", "rerank_200_candidates_50_events_ms", "rerank_steps_ms"),
        ("/label of 100 users", "label_100_events_of_100_users_ms", "label_100_events_of_100_users_steps_ms"),
    ):
        whole = figures[request]["p50"]
        left = whole - sum(figures[steps].values())
        each = (f"{name} {took:.2f} ({took / whole:.0%})" for name, took in figures[steps].items())
        told.append(
            f"Steps of {path}, each timed by itself: {', '.join(each)}; the rest, which is HTTP, waiting and "
            f"counting, {left:.2f} ({left / whole:.0%})."
        )
    return told


def faults_table(report: dict[str, Any]) -> str:
    """Markdown of one report of `loadtests.faults`, ending with a newline."""
    rows = report["rows"]
    found = {name: sum(row["events"][name] for row in rows) for name in ("acknowledged", "lost", "doubled")}
    allowed = sum(row["events"]["lost"] for row in rows if row["name"] == EVERY_SECOND)
    lines = [
        f"`{report['command']}`, {report['date']}, commit `{report['commit']}`, {report['machine']}: "
        f"{len(rows)} faults, {sum(row['requests'] for row in rows):,} requests, "
        f"{found['acknowledged']:,} acknowledged events, **{found['lost'] - allowed} lost, "
        f"{found['doubled']} doubled**"
        + (
            f", and {allowed} lost where the store may lose a second's worth (`everysec`)."
            if allowed
            else "."
        ),
        "",
        "| fault | requests | answers | /label ms | /rerank ms | well again, s | events | lost | doubled | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        events = row["events"]
        recovered = row["recovered_s"]
        cells = (
            row["name"],
            row["requests"],
            _named(row["answers"]),
            _spread(row["label_ms"]),
            _spread(row["rerank_ms"]),
            "never" if recovered is None else f"{recovered:.2f}",
            events["acknowledged"],
            events["lost"],
            events["doubled"],
            _named(row["notes"]),
        )
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def fuzz_sentence(report: dict[str, Any]) -> str:
    """One report of `make fuzz` in a sentence, ending with a newline."""
    parts = (report["from_the_description"], report["broken"])
    server_faults = sum(part["statuses"].get("500", 0) for part in parts)
    return (
        f"`{report['command']}`, {report['date']}, commit `{report['commit'][:7]}`, {report['machine']}: "
        f"{report['cases']:,} cases, {sum(part['failures'] for part in parts)} failures, "
        f"{server_faults} answers 500.\n"
    )


def soak_sentence(report: dict[str, Any]) -> str:
    """One report of `loadtests.soak` in a sentence, ending with a newline."""
    found = report["figures"]
    return (
        f"`{report['command']}`, {report['date']}, commit `{report['commit']}`, {report['machine']}: "
        f"{found['requests']:,} requests at {found['rate']:.0f}/s, answers {_named(found['statuses'])}; "
        f"the worker's memory {found['rss_mib']['start']:.0f} to {found['rss_mib']['end']:.0f} MiB, "
        f"slope {found['rss_slope_mib_per_h']:+.1f} MiB an hour; p50 of slates drifts by "
        f"{found['rerank_p50_drift']:+.1%}.\n"
    )


def _named(counts: dict[str, Any]) -> str:
    """`200: 40, 503: 3`; what is nested is taken apart."""
    found = []
    for name, value in counts.items():
        if isinstance(value, dict) and set(value) == {"p50", "p99", "max"}:
            value = _spread(value)
        elif isinstance(value, dict):
            value = _named(value)
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        found.append(f"{name.replace('_', ' ')}: {value}")
    return ", ".join(found)


def _spread(ms: dict[str, float]) -> str:
    return " / ".join(f"{ms[name]:.0f}" for name in ("p50", "p99", "max")) if ms else "-"


def main() -> None:
    """Print the table of the report in a file."""
    report = json.loads(Path(sys.argv[1]).read_text())
    if "rows" in report:
        sys.stdout.write(faults_table(report))
    elif "budgets" in report:
        sys.stdout.write(load_table(report))
    elif "broken" in report:
        sys.stdout.write(fuzz_sentence(report))
    elif "rss_slope_mib_per_h" in report["figures"]:
        sys.stdout.write(soak_sentence(report))
    else:
        sys.stdout.write(table(report))


if __name__ == "__main__":
    main()
