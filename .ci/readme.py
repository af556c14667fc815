"""Write the generated blocks of README.md from committed records: `.venv/bin/python .ci/readme.py`.

A block lies between `<!-- name -->` and `<!-- /name -->`. A test compares README.md with what this writes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from training.export.model_card import card

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

LABELS = (
    "labelcraft",
    "free",
    "frozen",
    "shuffled",
    "best rule: past",
    "best rule: hindsight",
    "LV + .15d",
    "video's watch time",
    "random",
    "wt",
    "pcr",
    "d2q",
    "rad",
    "wt+ef",
    "dml",
)
WATCH_TIME = (
    "lda",
    "lda median",
    "tpm median",
    "cread median",
    "or median",
    "vr l1",
    "dml l1",
    "d2q l1",
    "cwm l1",
    "wlr median",
    "trees l1",
    "median",
)


def record(*path: str) -> Any:
    """Return a committed JSON record."""
    return json.loads(ROOT.joinpath(*path).read_text())


def methods_table(report: str, methods: tuple[str, ...], columns: dict[str, tuple[str, int]]) -> str:
    """Return mean ± standard deviation over seeds; `*` marks p < 0.05 against the first method, corrected for
    the number of comparisons where the report does so."""
    rows = {row["method"]: row for row in record("training", "reports", report, "report.json")["rows"]}
    lines = [
        "| method | " + " | ".join(title for title, _ in columns.values()) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for method in methods:
        cells = []
        for metric, (_, digits) in columns.items():
            figure = rows[method]["metrics"][metric]
            spread = f" ± {figure['std']:.{digits}f}" if figure.get("std") else ""
            difference = rows[method]["against"].get(metric) or {}
            p_value = difference.get("p_adjusted", difference.get("p_value"))
            mark = "\\*" if p_value is not None and p_value < 0.05 else ""
            cells.append(f"{figure['mean']:.{digits}f}{spread}{mark}")
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    corrected = any("p_adjusted" in paired for row in rows.values() for paired in row["against"].values())
    test = "users and recommenders, corrected" if corrected else "test users, uncorrected"
    lines.append(f"\n\\* differs from `{methods[0]}` with p < 0.05 (paired bootstrap over {test}).")
    return "\n".join(lines) + "\n"


def measured() -> str:
    """Return one line per load test."""
    bench = record("loadtests", "bench.json")["figures"]
    load = record("loadtests", "load.json")["figures"]
    faults = record("loadtests", "faults.json")["rows"]
    fuzz = record("loadtests", "fuzz.json")
    soak = record("loadtests", "soak.json")["figures"]
    requests = sum(row["requests"] for row in faults)
    acknowledged = sum(row["events"].get("acknowledged", 0) for row in faults)
    lost = {row["name"]: row["events"]["losses"] for row in faults if row["events"].get("losses")}
    doubled = sum(row["events"].get("duplicates", 0) for row in faults)
    errors = sum(
        fuzz[part]["statuses"].get("500", 0)
        for part in ("from_the_description", "broken", "on_the_wire")
        if part in fuzz
    )
    rerank = bench["rerank_200_candidates_50_events_ms"]
    return (
        f"  * `make bench`: `/rerank` of 200 candidates takes {rerank['p50']:.1f} ms (p50) and "
        f"{rerank['p99']:.1f} ms (p99), of which the ONNX graph alone takes "
        f"{bench['bare_ranker_call_ms']['p50']:.1f} ms.\n"
        f"  * `make load`: one worker sustains {load['rerank 200']['most']:.0f} such requests/s, or "
        f"{load['label 100']['events_per_s']:,.0f} events/s in batches of 100; missed budgets are listed.\n"
        f"  * `make faults`: {len(faults)} injected faults, {requests:,} requests, {acknowledged:,} "
        f"acknowledged events: {doubled} duplicated, {sum(lost.values())} lost"
        + (f", all with `{next(iter(lost))}`" if len(lost) == 1 else "")
        + ".\n"
        f"  * `make fuzz`: {fuzz['cases']:,} valid and broken requests, {errors} answers with status 500.\n"
        f"  * `python -m loadtests.soak`: {soak['seconds'] / 60:.0f} minutes, worker memory "
        f"{soak['rss_mib']['start']:.0f} to {soak['rss_mib']['end']:.0f} MiB.\n"
    )


def blocks() -> dict[str, str]:
    """Return the content of every generated block."""
    return {
        "card": card(ROOT / "models" / "bundles"),
        "labels": methods_table(
            "labels-kuairand-pure",
            LABELS,
            {
                "composite@5": ("composite@5", 3),
                "paper_composite@5": ("LabelCraft's own", 3),
                "nwtg@5": ("NWTG@5", 3),
                "neg@5": ("NEG", 3),
                "ds@5": ("DS@5, s", 1),
            },
        ),
        "watch-time": methods_table(
            "watch-time-kuairand-pure",
            WATCH_TIME,
            {"mae_s": ("MAE, s", 2), "xauc": ("XAUC", 4), "gauc_long_view": ("GAUC of long view", 4)},
        ),
        "measured": measured(),
    }


def written(text: str) -> str:
    """Return README.md with its blocks replaced."""
    for name, content in blocks().items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not block.search(text):
            raise ValueError(f"README.md has no block `{name}`")
        text = block.sub(lambda match, content=content: match[1] + content + match[2], text)
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text()))
