"""What `make bench` printed, as the table of a README: `python -m loadtests.table FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

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
        f"Ready {figures['start_to_ready_s']:.2f} s after the start; "
        f"the worker holds {figures['rss_mib']:.0f} MiB.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table(json.loads(Path(sys.argv[1]).read_text())))
