"""The label report as Markdown: what was done, how to read it, and what came out, sentences included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from training.compare._report import MARKS, SIGNIFICANT, Row, Versus, markdown_table
from training.compare._stand import Among, interval, sentence
from training.compare.labels._assemble import REFERENCE, Findings
from training.compare.labels._columns import COLUMNS, digits, title
from training.compare.labels._why import durations, falls_short, labels, times, why_no_row_leads
from training.compare.labels._world import CompareConfig

HOW_TO_READ: Final = """\
Every method hands labels to the same recommender (DIN), fitted alike: on the train and meta days, stopped
early by NWTG on the early-stop days, judged once on the test days. Rules read their tables off the train
and meta days, LabelCraft learns its labels on train with meta as its hold-out. Only users with more than
k exposures in the test window are judged, each on the order of their own exposures.

* **NWTG@k**: seconds watched in the first k places, discounted, against the best order. **NEG@k**: the
  same of explicit feedback; a user without any counts 1.0, so "users with feedback" leaves them out.
  **DS@k**: standard deviation of the durations, in seconds. More is better in all three. Means are
  weighted by exposures unless a table says otherwise.
* **composite@k**: LabelCraft's own aim, usage time + engagement + duration spread of the first k places,
  each user once.
* `±` is the standard deviation over the seeds: what another start of the same fit changes. The marks and
  p values are of a paired bootstrap over the test users (each user's value averaged over the seeds
  first): what other users would change. ▲ LabelCraft leads the row (p < {significant}), = the two tie, ▼
  LabelCraft loses to it. Nothing is done about the number of tests: one in twenty of true ties is marked
  by chance.
* **RI**, as in the paper: (LabelCraft − row) / row."""


def markdown(
    findings: Findings,
    facts: dict[str, Any],
    config: CompareConfig,
    notes: Sequence[str],
    made: dict[str, str],
) -> str:
    """The whole of `report.md`."""
    parts = [
        f"# Labels compared on {facts['dataset']}",
        _provenance(facts, config, made),
        "## How to read it",
        HOW_TO_READ.format(significant=SIGNIFICANT),
        *_standing(findings),
        f"## The table, k = {findings.cuts[-1]}",
        *_main(findings),
        "![The three columns as bars](bars.png)",
        *_improvement(findings),
        *_ablations(findings),
        *_other_means(findings),
        *why_no_row_leads(findings),
        *durations(findings),
        *labels(findings),
        *falls_short(findings, config, notes),
        *times(findings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _provenance(facts: dict[str, Any], config: CompareConfig, made: dict[str, str]) -> str:
    lines = [
        f"`{made['command']}`",
        "",
        f"Commit `{made['commit']}`, {made['machine']}. {facts['rows']:,} exposures ({facts['source']}; "
        f"{facts['licence']}). Seeds {config.seed} to {config.seed + config.seeds - 1}.",
        "",
    ]
    cuts = [name for name in facts["windows"]["test"] if name.startswith("users@")]
    head = [
        "window",
        "days",
        "exposures",
        "users",
        *(f"with more than {c[6:]}" for c in cuts),
        "explicit feedback",
    ]
    rows = []
    for name, window in facts["windows"].items():
        share = window["explicit_share"]
        rows.append(
            [
                name.replace("_", " "),
                " to ".join(dict.fromkeys(window["days"])),
                f"{window['rows']:,}",
                f"{window['users']:,}",
                *(f"{window[c]:,}" for c in cuts),
                "–" if share is None else f"{share:.2%}",
            ]
        )
    return "\n".join(lines + markdown_table(head, rows))


def _standing(findings: Findings) -> list[str]:
    reference = findings.reference
    if reference is None:
        return []
    lines: dict[Among, list[str]] = {"all": [], "paper": []}
    for stand in findings.standings:
        mark = "first" if stand.gap == 0 else "within one standard deviation of first"
        if not stand.within:
            mark = "**not** first" if stand.stds is None else "**not** within one standard deviation of first"
        said = sentence(findings.plain(), reference, stand, title(stand.figure), digits(stand.figure))
        lines[stand.among].append(f"* {said} ({mark})")
    out = ["## Where LabelCraft stands", "\n".join(lines["all"])]
    if lines["paper"]:
        names = ", ".join(f"`{row.method}`" for row in findings.plain() if row.more["paper"])
        out += [f"Among the baselines of the paper alone ({names}):", "\n".join(lines["paper"])]
    return out


def _main(findings: Findings) -> list[str]:
    k = findings.cuts[-1]
    names = [f"nwtg@{k}", f"neg@{k}", f"neg@{k}_positive_users", f"ds@{k}", f"composite@{k}"]
    head = ["method", *map(title, names), "labels"]
    rows = []
    for row in findings.rows:
        if row.more["ablation"]:
            continue
        if row.refused is not None:
            rows.append([f"`{row.method}`", *(["–"] * len(names)), f"cannot work here: {row.refused}"])
        else:
            rows.append([_bold(row, f"`{row.method}`"), *(_cell(row, name) for name in names), row.says])
    return ["\n".join(markdown_table(head, rows, text=2))]


def _improvement(findings: Findings) -> list[str]:
    others = [row for row in findings.plain() if row.against]
    if not others:
        return []
    names = findings.columns()
    head = ["LabelCraft against"]
    for name in names:
        head += [f"RI {title(name)}", "difference (95 %)", "p"]
    rows = []
    for row in others:
        cells = [f"`{row.method}`"]
        for name in names:
            cells += _versus(row.against.get(name), digits(name))
        rows.append(cells)
    return ["## Relative improvement", "\n".join(markdown_table(head, rows))]


def _ablations(findings: Findings) -> list[str]:
    rows = [row for row in findings.rows if row.more["ablation"]]
    if not rows:
        return []
    reference = [findings.reference] if findings.reference is not None else []
    k = findings.cuts[-1]
    names = [*findings.columns(), f"composite@{k}"]
    body = []
    for row in [*reference, *rows]:
        cells = [_cell(row, name) for name in names] if row.refused is None else ["–"] * len(names)
        body.append([f"`{row.method}`", *cells, row.says if row.refused is None else row.refused])
    head = ["method", *map(title, names), "what is different"]
    return [
        "## Ablations",
        "LabelCraft with one thing taken away. Marks as above: ▲ the whole of LabelCraft leads.",
        "\n".join(markdown_table(head, body, text=2)),
    ]


def _other_means(findings: Findings) -> list[str]:
    ways = [(k, "") for k in findings.cuts[:-1]] + [(k, "_plain") for k in findings.cuts]
    names = [f"{column}@{k}{suffix}" for k, suffix in ways for column in COLUMNS]
    rows = [
        [f"`{row.method}`", *(_cell(row, name) for name in names)]
        for row in findings.rows
        if row.refused is None
    ]
    table = markdown_table(["method", *map(title, names)], rows)
    return ["## The same, counted otherwise", "\n".join(table)]


def _cell(row: Row, name: str) -> str:
    figure = row.metrics.get(name)
    if figure is None or figure.mean is None:
        return "–"
    found = row.against.get(name)
    return _bold(row, interval(figure.mean, figure.std, digits(name))) + (
        MARKS[found.verdict] if found else ""
    )


def _bold(row: Row, text: str) -> str:
    return f"**{text}**" if row.method == REFERENCE else text


def _versus(found: Versus | None, places: int) -> list[str]:
    if found is None:
        return ["–", "–", "–"]
    improvement = "–" if found.relative_improvement is None else f"{found.relative_improvement:+.1%}"
    low, high = found.ci
    return [
        improvement + MARKS[found.verdict],
        f"{found.difference:+.{places}f} ({low:+.{places}f} to {high:+.{places}f})",
        f"{found.p_value:.3f}",
    ]
