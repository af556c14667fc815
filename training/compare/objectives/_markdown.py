"""The objectives report as Markdown: what was done, how to read it, and what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.compare._report import MARKS, SIGNIFICANT, Row, markdown_table
from training.compare._stand import interval, sentence, standing
from training.compare.objectives._assemble import REFERENCE
from training.compare.objectives._cost import ROUNDS
from training.compare.objectives._judge import FREQUENT
from training.rankers import NAMES, WATCH_TIME

MEANS: Final = {
    "auc": "mean AUC",
    "gauc": "mean GAUC",
    "auc_frequent": "mean AUC, frequent",
    "gauc_frequent": "mean GAUC, frequent",
}
HOW_TO_READ: Final = """\
One encoder, experts by side (positive objectives share theirs, skip and hate have their own), a head for each
objective; watch time is value regression with LDA's loss. Methods differ in what the encoder descends: the
balancer makes one update of the objectives' gradients over the encoder, and what lies behind it gets its own
objectives' sum. All meet the same first weights, the same batches and the same rate, are fitted on what lies
before the early-stop days, stopped by the mean AUC there, and judged once on the test days. `single` has a
ranker for each objective, each stopped by its own.

* **AUC** over all rows, each with what its user did before it, and **GAUC** within users, weighted by their
  exposures; of watch time XAUC and XGAUC. For GAUC a user's rows of the test days are candidates of one
  request, made as the first of them came: what `/rerank` orders. The means are over all {count} objectives,
  and over the frequent ones: those with {frequent} rows of either kind on the test days. Two dozen rows move
  an AUC by a tenth. `±` is the standard deviation over the seeds.
* **GAUC row by row** lets each row know what came before it, and misjudges the order within a user: behind a
  like, habits say that this user likes, so the rows after it stand above it. With two rows a user, a ranker
  that tells users apart well falls below a half. It is here because it is what is published mostly.
* Marks and p values are of a paired bootstrap over the test users, each user's part in the mean averaged over
  the seeds first (AUC by its first-order projection on users): ▲ GradCraft leads the row (p < {significant}),
  = the two tie, ▼ GradCraft loses to it.
* **ECE**: expected calibration error in 15 bins of equally many rows, after Platt's lines that were fitted on
  the early-stop days, and before."""


def markdown(rows: Sequence[Row], report: Mapping[str, Any]) -> str:
    """The whole of `report.md`."""
    facts, config = report["dataset"], report["config"]
    shown = [row for row in rows if row.refused is None]
    parts = [
        f"# Objectives compared on {facts['dataset']}",
        f"`{report['command']}`",
        f"Commit `{report['commit']}`, {report['machine']}. {facts['rows']:,} exposures ({facts['source']}; "
        f"{facts['licence']}). Seeds {config['seed']} to {config['seed'] + config['seeds'] - 1}.",
        "\n".join(_windows(facts["windows"])),
        "## How to read it",
        HOW_TO_READ.format(count=len(NAMES) + 1, frequent=FREQUENT, significant=SIGNIFICANT),
        *_standing(shown),
        "## The table",
        "\n".join(_table([row for row in rows if not row.more["ablation"]])),
        "![Mean AUC and GAUC](bars.png)",
        *_ablations(shown),
        "## AUC by objective",
        "\n".join(_by_objective(shown, "auc")),
        "## GAUC by objective",
        "\n".join(_by_objective(shown, "gauc")),
        "## GAUC row by row",
        "\n".join(_by_objective(shown, "gauc_by_row", mean=True)),
        "## Calibration",
        "\n".join(_calibration(shown)),
        "## What a step costs",
        *_costs(report["costs"]),
        *_curves(shown),
        *_refused(rows),
    ]
    return "\n\n".join(parts) + "\n"


def _windows(windows: Mapping[str, Any]) -> list[str]:
    head = ["window", "days", "exposures", "users", *(name.replace("_", " ") for name in NAMES)]
    body = [
        [
            name.replace("_", " "),
            " to ".join(dict.fromkeys(w["days"])),
            f"{w['rows']:,}",
            f"{w['users']:,}",
            *(f"{w['happened'][n]:,}" for n in NAMES),
        ]
        for name, w in windows.items()
    ]
    return markdown_table(head, body)


def _standing(rows: Sequence[Row]) -> list[str]:
    mine = next((row for row in rows if row.method == REFERENCE), None)
    if mine is None:
        return []
    among = [row for row in rows if not row.more["ablation"]]
    lines = [
        f"* {sentence(among, mine, standing(among, mine, kind), called, 4)}" for kind, called in MEANS.items()
    ]
    for name in ("equal", "pcgrad"):
        row = next((row for row in rows if row.method == name), None)
        if row is not None:
            lines += [
                f"* {called} against `{name}`: {v.difference:+.4f} "
                f"(95 %: {v.ci[0]:+.4f} to {v.ci[1]:+.4f}, p = {v.p_value:.3f})."
                for kind, called in MEANS.items()
                if (v := row.against.get(kind)) is not None
            ]
    return ["## Where GradCraft stands", "\n".join(lines)]


def _cell(row: Row, figure: str, digits: int) -> str:
    found = row.metrics.get(figure)
    if found is None or found.mean is None:
        return "–"
    mark = MARKS[row.against[figure].verdict] if figure in row.against else ""
    text = interval(found.mean, found.std, digits) + mark
    return f"**{text}**" if row.method == REFERENCE else text


def _name(row: Row) -> str:
    return f"**`{row.method}`**" if row.method == REFERENCE else f"`{row.method}`"


def _table(rows: Sequence[Row]) -> list[str]:
    head = ["method", *MEANS.values(), "MAE of watch time, s", "parameters", "epochs", "fit, CPU s"]
    body = []
    for row in rows:
        if row.refused is not None:
            body.append([_name(row), *["–"] * (len(head) - 1), row.refused])
            continue
        more = row.more
        body.append(
            [
                _name(row),
                *(_cell(row, kind, 4) for kind in MEANS),
                _cell(row, "mae_s", 3),
                f"{more['parameters']:,.0f}",
                "–" if more["epochs"] is None else f"{more['epochs']:g}",
                f"{more['cpu_s']:.0f}",
                row.says,
            ]
        )
    return markdown_table([*head, "what it is"], body, text=2)


def _ablations(rows: Sequence[Row]) -> list[str]:
    mine = [row for row in rows if row.method == REFERENCE or row.more["ablation"]]
    if len(mine) < 2:
        return []
    head = ["method", *MEANS.values(), "what is different"]
    body = [[_name(row), *(_cell(row, kind, 4) for kind in MEANS), row.says] for row in mine]
    fits = min(len(row.metrics["auc"].seeds) for row in mine)
    said = f"GradCraft with one knob turned, each fitted with {fits} seeds or more. Marks as above."
    return ["## Ablations", said, "\n".join(markdown_table(head, body, text=2))]


def _by_objective(rows: Sequence[Row], kind: str, *, mean: bool = False) -> list[str]:
    names = (WATCH_TIME, *NAMES)
    columns = {"mean": kind} if mean else {}
    columns |= {name.replace("_", " "): f"{kind}/{name}" for name in names}
    body = [[_name(row), *(_cell(row, figure, 4) for figure in columns.values())] for row in rows]
    return markdown_table(["method", *columns], body)


def _calibration(rows: Sequence[Row]) -> list[str]:
    head = ["ECE after (before)", *(name.replace("_", " ") for name in NAMES)]
    body = []
    for row in rows:
        cells = []
        for name in NAMES:
            after, before = row.metrics[f"ece/{name}"].mean, row.metrics[f"raw_ece/{name}"].mean
            cells.append("–" if after is None or before is None else f"{after:.4f} ({before:.4f})")
        body.append([_name(row), *cells])
    return markdown_table(head, body)


def _costs(costs: Sequence[Mapping[str, Any]]) -> list[str]:
    if not costs:
        return ["No method was timed."]
    said = (
        f"One step (losses, gradients, update) of {len(NAMES) + 1} objectives on one batch and one thread; "
        f"processor time, methods in turns, medians of {ROUNDS} rounds. The ratio is to "
        f"`{costs[0]['cheapest']}`, the cheapest of TorchJD's that work on a Gramian."
    )
    head = ["method", "step, ms", "ratio", "weights from the Gramian alone, ms"]
    body = [
        [
            f"`{c['method']}`",
            f"{c['step_ms']:.1f}",
            "–" if c["ratio"] is None else f"{c['ratio']:.2f}",
            "–" if c["balancer_ms"] is None else f"{c['balancer_ms']:.2f}",
        ]
        for c in costs
    ]
    return [said, "\n".join(markdown_table(head, body))]


def _curves(rows: Sequence[Row]) -> list[str]:
    mine = [row for row in rows if row.more.get("curve")]
    if not mine:
        return []
    most = max(len(row.more["curve"]) for row in mine)
    body = []
    for row in mine:
        curve = [f"{epoch['stop_auc']:.4f}" for epoch in row.more["curve"]]
        body.append([_name(row), *curve, *["–"] * (most - len(curve))])
    said = "Mean AUC on the early-stop days after each epoch (first seed). The best one is kept."
    head = ["method", *map(str, range(1, most + 1))]
    return ["## How far more epochs lead", said, "\n".join(markdown_table(head, body))]


def _refused(rows: Sequence[Row]) -> list[str]:
    lines = [f"* `{row.method}`: {row.refused}" for row in rows if row.refused is not None]
    return ["## What this log does not allow", "\n".join(lines)] if lines else []
