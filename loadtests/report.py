"""`python -m loadtests.report FILE... [--readme README]`: reports as Markdown, by one renderer.

Every figure comes from the JSON file, so a committed report is rendered again without measuring anything.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loadtests.command import check_folder, make_app, write_atomically
from models.errors import BadInput

Report = Mapping[str, Any]

TEMPLATES: Final = Path(__file__).parent / "templates"
REELRANK: Final = "reelrank"
EVERY_SECOND: Final = "kills, fsync every second"
STORE_KILLED: Final = "embedded store killed"
MAY_LOSE: Final = (EVERY_SECOND, STORE_KILLED)
"""Fault drills that may lose acknowledged events, of a second at most."""
BENCH_ROWS: Final = {
    "POST /rerank, 200 candidates, 50 events of history": "rerank_200_candidates_50_events_ms",
    "the bare ranker graph on the same arrays": "bare_ranker_call_ms",
    "POST /label, 1 event": "label_1_event_ms",
    "POST /label, 100 events of 1 user": "label_100_events_of_1_user_ms",
    "POST /label, 100 events of 100 users": "label_100_events_of_100_users_ms",
}
BENCH_STEPS: Final = (
    ("/rerank", "rerank_200_candidates_50_events_ms", "rerank_steps_ms"),
    ("/label of 100 users", "label_100_events_of_100_users_ms", "label_100_events_of_100_users_steps_ms"),
)
BENCH_STAGES: Final = {
    "/rerank": "rerank_stages_ms",
    "/label of 100 users": "label_100_users_stages_ms",
}
CONSUME_ROWS: Final = {
    "redis": "Redis Stream",
    "kafka": "Kafka topic",
    "kafka_with_faults": "Kafka topic; one killed with -9 after {killed_at:,} labels while a fourth joined; "
    "broker unreachable for {away_s:g} s after {away_at:,}",
}
SPARK_ROWS: Final = {
    "one_process": "one process, no Spark",
    "one_executor": "one executor",
    "two_executors": "two executors",
    "two_executors_killed": "two executors, killed with -9 after {tasks}",
}
SPARK_STEPS: Final = ("prepare", "label")
EVENT_COUNTS: Final = ("acknowledged", "losses", "duplicates")
FAULT_COLUMNS: Final = (
    "fault|requests|replies|/label ms|/rerank ms|recovery s|acknowledged events|lost|duplicated|"
)
LOAD_COLUMNS: Final = (
    *(
        "scenario",
        "max/s",
        "capacity/s (p99 < 10 ms)",
        "at half: p50 ms",
        "p99 ms",
        "p99 ms by its own clock",
    ),
    *("p99.9 ms", "errors", ""),
)
LOAD_NOTES: Final = {
    "events_per_s": "{events_per_s:,.0f} events/s",
    "over_bare_ms": "one connection {one_connection_ms:.2f} ms, bare graph {bare_call_ms:.2f} ms",
    "unfinished": "{unfinished:.0f} unfinished",
    "first_users_share": "{first_users_share:.0%} from one user",
    "failed": "{failed:.0f} failed, p99 {p99_ratio}x of a quiet run",
    "different": "{different:,} requests",
}
PEER_COLUMNS: Final = {
    "rate": ("requests/s", ".0f"),
    "cpu_ms": ("CPU ms/request", ".2f"),
    "p50_ms": ("p50 ms", ".2f"),
    "p99_ms": ("p99 ms", ".2f"),
    "memory_mib": ("memory MiB", ".0f"),
}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table without a newline at its end."""
    lines = [
        f"| {' | '.join(str(cell) for cell in cells)} |".replace("|  |", "| |") for cells in (header, *rows)
    ]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def render_template(name: str, report: Report, **values: object) -> str:
    """Fill `templates/NAME.md` with the members of a report, its origin and further values."""
    bundle = report.get("bundle") or report.get("figures", {}).get("bundle")
    origin = [f"`{report['command']}`", report["date"], f"commit `{report['commit'][:7]}`"]
    origin += [f"bundle `{bundle}`"] if bundle else []
    values["origin"] = ", ".join([*origin, report["machine"]])
    return (TEMPLATES / f"{name}.md").read_text().format(**{**report, **values})


def render_bench(report: Report) -> str:
    """Return the table of `loadtests.bench`."""
    figures = report["figures"]
    rows = [(title, *(f"{figures[key][q]:.2f}" for q in ("p50", "p99"))) for title, key in BENCH_ROWS.items()]
    lines = []
    for path, key in BENCH_STAGES.items():
        if ms := figures.get(key):
            each = ", ".join(f"{name} {took:.2f}" for name, took in ms.items())
            lines.append(f"Stages of {path} by its `Server-Timing`, ms: {each}.")
    for path, request, key in BENCH_STEPS:
        if ms := figures.get(key):  # of older reports
            total = figures[request]["p50"]
            steps = ms | {"the rest (HTTP, waiting, metrics)": total - sum(ms.values())}
            each = ", ".join(f"{name} {took:.2f} ({took / total:.0%})" for name, took in steps.items())
            lines.append(f"Steps of {path} in a loop of their own, ms: {each}.")
    table = markdown_table(("ms", "p50", "p99"), rows)
    return render_template("bench", report, table=table, stages="\n".join(lines), **figures)


def render_load(report: Report) -> str:
    """Return the tables of `loadtests.load`."""
    figures, share = report["figures"], report["others_share"]
    other_load = "" if share is None else f", other programs took {share:.0%} of the cores"
    parts = [render_template("load", report, other_load=other_load)]
    rows = [_load_row(name, row) for name, row in figures.items() if "half" in row and "twice" not in row]
    parts += [markdown_table(LOAD_COLUMNS, rows) + "\n"] if rows else []
    for row in figures.values():
        if twice := row.get("twice"):
            statuses = _counts(twice["statuses"])
            closed = [
                f"{n} connections that never pause: {_counts(counts)}."
                for n, counts in row.get("closed", {}).items()
            ]
            columns = {
                "statuses": statuses,
                "p50": _percentile(twice, "p50"),
                "p99": _percentile(twice, "p99"),
                "own_p99": _percentile(twice, "p99", clock="service_ms"),
                "closed_loops": "".join(f" {line}" for line in closed),
            }
            parts.append(render_template("load_overload", report, **columns, **row))
    if "start" in figures:
        parts.append(render_template("load_start", report, **figures["start"]))
    if report["budgets"]:
        verdicts = [_verdict_row(verdict) for verdict in report["budgets"]]
        parts.append(markdown_table(("budget", "bound", "measured", ""), verdicts) + "\n")
    return "\n".join(parts)


def _load_row(name: str, row: Report) -> list[str]:
    half = row["half"]
    capacity = row.get("capacity", "")
    notes = (text.format(**row) for key, text in LOAD_NOTES.items() if key in row)
    return [
        name,
        f"{row['most']:,.0f}",
        "none" if capacity is None else f"{capacity:,.0f}" if capacity else "",
        *(_percentile(half, q) for q in ("p50", "p99")),
        _percentile(half, "p99", clock="service_ms"),
        _percentile(half, "p99.9"),
        f"{half['errors']:.2%}",
        "; ".join(notes),
    ]


def _percentile(figures: Report, name: str, *, clock: str = "ms") -> str:
    """A latency by the driver's clock or the service's, which older reports do not have."""
    found = figures.get(clock)
    return f"{found[name]:.1f}" if found else "-"


def _verdict_row(verdict: Report) -> list[str]:
    measured = "-" if verdict["found"] is None else f"{verdict['found']:,g}"
    result = "met" if verdict["met"] else f"**missed by {verdict['missed_by']}**"
    return [verdict["title"], verdict["bound"], measured, result]


def render_faults(report: Report) -> str:
    """Return the table of `loadtests.faults`."""
    rows = report["rows"]
    sums = {name: sum(row["events"][name] for row in rows) for name in EVENT_COUNTS}
    tolerated = sum(row["events"]["losses"] for row in rows if row["name"] in MAY_LOSE)
    everysec = f", and {tolerated} lost within the second that `everysec` may lose" if tolerated else ""
    cells = [
        (
            row["name"],
            row["requests"],
            _counts(row["answers"]),
            *(_spread(row[key]) for key in ("label_ms", "rerank_ms")),
            "never" if row["recovered_s"] is None else f"{row['recovered_s']:.2f}",
            *(row["events"][name] for name in EVENT_COUNTS),
            _counts(row["notes"]),
        )
        for row in rows
    ]
    counts = {"drills": len(rows), "requests": sum(row["requests"] for row in rows)}
    sums["lost"] = sums.pop("losses") - tolerated
    table = markdown_table(FAULT_COLUMNS.split("|"), cells)
    return render_template("faults", report, table=table, everysec=everysec, **counts, **sums)


FUZZ_PARTS: Final = ("from_the_description", "broken", "on_the_wire")


def render_fuzz(report: Report) -> str:
    """Return one sentence on `make fuzz`."""
    parts = [report[part] for part in FUZZ_PARTS if part in report]
    errors = sum(part["statuses"].get("500", 0) for part in parts)
    return render_template("fuzz", report, failures=sum(part["failures"] for part in parts), errors=errors)


def render_soak(report: Report) -> str:
    """Return one sentence on `loadtests.soak`."""
    figures = report["figures"]
    return render_template("soak", report, replies=_counts(figures["statuses"]), **figures)


def render_consume(report: Report) -> str:
    """Return the table of `loadtests.consume`."""
    columns = ("labels", "lost", "doubled", "events_per_s", "consumer_cpu_us_per_event")
    rows = []
    for name, found in report["figures"].items():
        cells = [f"{found[column]:,}" if column in found else "" for column in columns]
        rows.append([CONSUME_ROWS[name].format(**report["setting"], **found), *cells])
    table = markdown_table(("", "labels", "lost", "doubled", "events/s", "CPU µs an event"), rows)
    return render_template("consume", report, table=table, **report["setting"])


def render_closed_loop(report: Report) -> str:
    """Return the table of `loadtests.closed_loop`."""
    columns = ("mae_s", "xauc", "gauc_long_view")
    titles = {"own": "from its CSV", "served": "from the service's log"}
    rows = [
        [titles[way], f"{report['rows'][way]:,}", *(f"{figures[column]:.4f}" for column in columns)]
        for way, figures in report["figures"].items()
    ]
    table = markdown_table(("", "rows", "MAE s", "XAUC", "GAUC of long views"), rows)
    same = (
        "the same" if report["rows_are_the_same"] and report["figures_are_the_same"] else "**not the same**"
    )
    answered = "answered" if report["answered_by_the_promoted"] else "**did not answer**"
    return render_template("closed_loop", report, table=table, same=same, answered=answered)


def render_spark(report: Report) -> str:
    """Return the table of `loadtests.spark`."""
    rows = []
    for name, found in report["figures"].items():
        killed = {step: found[step].get("killed_after_tasks") for step in SPARK_STEPS}
        tasks = ", ".join(
            f"{' and '.join(map(str, counts))} tasks of `{step}`" for step, counts in killed.items() if counts
        )
        cells = [
            f"{found[step][column]:,}"
            for step in SPARK_STEPS
            for column in ("seconds", "rows_per_s", "cpu_s")
        ]
        same = "" if "equal" not in found else "yes" if found["equal"] else "**no**"
        again = "" if "equal" not in found else "yes" if found["second_run_writes_nothing"] else "**no**"
        rows.append([SPARK_ROWS[name].format(tasks=tasks), *cells, same, again])
    steps = [f"`{step}` {unit}" for step in SPARK_STEPS for unit in ("s", "rows/s", "CPU s")]
    table = markdown_table(("", *steps, "equal", "a second run writes nothing"), rows)
    return render_template("spark", report, table=table, **report["setting"])


def render_peers(report: Report) -> str:
    """Return the tables of `loadtests.peers`."""
    parts = [render_template("peers", report)]
    for run in report["runs"]:
        rows = []
        for name, figures in run["servers"].items():
            title = name if name == REELRANK else f"{name} {report['versions'][name]}"
            rows.append([title, *(_number(figures[key], form) for key, (_, form) in PEER_COLUMNS.items())])
        for name, ratios in run["ratios"].items():
            rows.append([f"{REELRANK} / {name}", *(_number(ratios[key], ".2f", "x") for key in PEER_COLUMNS)])
        workers = f"{run['workers']} worker{'s' * (run['workers'] > 1)} each"
        columns = [workers, *(title for title, _ in PEER_COLUMNS.values())]
        cpu, per_cpu = "", {name: r["cpu_ms"] for name, r in run["ratios"].items() if r["cpu_ms"]}
        if per_cpu:
            leanest = max(per_cpu, key=lambda name: per_cpu[name])
            cpu = f", and {1 / per_cpu[leanest]:.2f} times those of {leanest} per CPU second"
        parts += [markdown_table(columns, rows) + "\n", render_template("peers_run", report, cpu=cpu, **run)]
    return "\n".join(parts)


def render_deployment(report: Report) -> str:
    """Return the table of `loadtests.topology`."""
    rows = [(step["name"], _counts(step["found"], "; "), f"{step['took_s']:.0f}") for step in report["steps"]]
    table = markdown_table(("", "what was found", "s"), rows)
    return render_template("deployment", report, table=table, minutes=report["seconds"] / 60)


def render_deployment_capacity(report: Report) -> str:
    """Return one paragraph on what the topology held and carried."""
    figures = next(step["found"] for step in report["steps"] if step["name"] == "capacity")
    return render_template("deployment_capacity", report, **figures)


RENDERERS: Final[dict[str, Callable[[Report], str]]] = {
    "bench": render_bench,
    "load": render_load,
    "faults": render_faults,
    "fuzz": render_fuzz,
    "soak": render_soak,
    "consume": render_consume,
    "closed_loop": render_closed_loop,
    "spark": render_spark,
    "peers": render_peers,
    "deployment": render_deployment,
}
"""By the name of the report's file and of its block in a README: `<!-- bench -->`."""


def replace_block(text: str, name: str, block: str) -> str:
    """Return a page with another block between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        BadInput: the page has no such marks.
    """
    pattern = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
    page, count = pattern.subn(lambda _: block, text, count=1)
    if not count:
        raise BadInput(f"no lines <!-- {name} --> and <!-- /{name} --> to put the table between.")
    return page


def main(
    files: Annotated[list[Path], typer.Argument(help="Reports, each under its own name, e.g. bench.json.")],
    readme: Annotated[Path | None, typer.Option(help="Replace the blocks of this page.")] = None,
) -> None:
    """Print reports as Markdown, or write them into a page."""
    check_folder(readme)
    for file in files:
        if file.stem not in RENDERERS:
            raise BadInput(f"{file} is no report; there is {', '.join(RENDERERS)}.")
        block = RENDERERS[file.stem](json.loads(file.read_text()))
        if readme is None:
            sys.stdout.write(block)
        else:
            write_atomically(readme, replace_block(readme.read_text(), file.stem, block))


def _counts(values: Mapping[str, Any], separator: str = ", ") -> str:
    """Return `200: 40, 503: 3`; nested objects are flattened."""
    parts = []
    for name, value in values.items():
        if isinstance(value, dict):
            value = _spread(value) if set(value) == {"p50", "p99", "max"} else _counts(value, separator)
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        elif isinstance(value, int):
            value = f"{value:,}"
        parts.append(f"{name.replace('_', ' ')}: {value}")
    return separator.join(parts)


def _spread(ms: Mapping[str, float]) -> str:
    return " / ".join(f"{ms[name]:.0f}" for name in ("p50", "p99", "max")) if ms else "-"


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


app = make_app("report", main)

if __name__ == "__main__":
    app()
