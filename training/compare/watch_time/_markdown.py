"""The watch-time report as Markdown: what was done, how to read it, and what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.compare._report import MARKS, SIGNIFICANT, Row, Summary, Versus, markdown_table
from training.compare._stand import interval
from training.compare.watch_time._assemble import REFERENCE
from training.compare.watch_time._judge import ACTIVITY

LOWER: Final = ("mae_s", "rmse_s")
"""Figures of which less is better."""
HOW_TO_READ: Final = """\
Every head stands on the same encoder (features, sizes, dropout), meets the same first weights of it, and is
fitted alike: on everything before the early-stop days, by the same optimiser for the same most epochs,
stopped by the mean absolute error on the early-stop days, judged once on the test days. Boosted trees read
what the encoder computes without parameters (running statistics of user, video, author and tag, the newest
steps, profile, duration), are stopped on the same days, and get {rounds} rounds at most.

* **MAE**, **RMSE**: seconds, less is better. **XAUC**: how often a pair of rows is in the right order; pairs
  whose watch times are equal do not count (other conventions below). **XGAUC**: the same within each user,
  users weighted by their exposures. **GAUC of long view**: within users, whether long views (w ≥ d up to
  18 s, w ≥ 18 s above) come first.
* `±` is the standard deviation over the seeds. Marks and p values are of a paired bootstrap over the test
  users, each user's error averaged over the seeds first: ▲ LDA leads the row (p < {significant}), = the two
  tie, ▼ LDA loses to it. XAUC is resampled by its first-order projection on users.
* **µs** is a candidate's inference on one thread, encoder included, in batches of 2,048 rows with a history
  each; trees have their features at hand. **parameters** of trees are leaves."""


def markdown(rows: Sequence[Row], report: Mapping[str, Any]) -> str:
    """The whole of `report.md`."""
    facts, config = report["dataset"], report["config"]
    shown = [row for row in rows if row.refused is None]
    parts = [
        f"# Watch time compared on {facts['dataset']}",
        f"`{report['command']}`",
        f"Commit `{report['commit']}`, {report['machine']}. {facts['rows']:,} exposures ({facts['source']}; "
        f"{facts['licence']}). Seeds {config['seed']} to {config['seed'] + config['seeds'] - 1}.",
        "\n".join(_windows(facts["windows"])),
        "## How to read it",
        HOW_TO_READ.format(rounds="2,000", significant=SIGNIFICANT),
        *_standing(shown),
        "## The table",
        "\n".join(_table([row for row in rows if not row.more["ablation"]])),
        "![MAE and XAUC](bars.png)",
        *_ablations(shown),
        "## Other figures",
        "\n".join(_others(shown)),
        *_groups(shown, "octile", "## By duration", _octiles(shown)),
        *_groups(shown, "activity", "## By how much was known of the user", _activities()),
        "![Predicted and actual](predicted.png)",
        *_curves(shown),
        *_calibration(shown),
        *_anchors(shown),
        *_gain(shown),
        *_refused(rows),
    ]
    return "\n\n".join(parts) + "\n"


def _windows(windows: Mapping[str, Any]) -> list[str]:
    head = ["window", "days", "exposures", "users", "mean watch time, s", "median, s"]
    body = [
        [
            name.replace("_", " "),
            " to ".join(dict.fromkeys(w["days"])),
            f"{w['rows']:,}",
            f"{w['users']:,}",
            f"{w['mean_watch_time_s']:.2f}",
            f"{w['median_watch_time_s']:.2f}",
        ]
        for name, w in windows.items()
    ]
    return markdown_table(head, body)


def _standing(rows: Sequence[Row]) -> list[str]:
    """Where LDA stands in MAE and XAUC: among the paper's seven, and beside the trees."""
    mine = next((row for row in rows if row.method == REFERENCE), None)
    if mine is None:
        return []
    lines = []
    for figure, called, d in (("mae_s", "MAE", 3), ("xauc", "XAUC", 4)):
        for circle, others in (
            ("the paper's baselines", [row for row in rows if row.more["paper"]]),
            ("boosted trees", [row for row in rows if row.method.startswith("lightgbm")]),
        ):
            if not others:
                continue
            best = min(others, key=lambda row: _rank(row.metrics[figure], figure))
            lead = _rank(best.metrics[figure], figure) - _rank(mine.metrics[figure], figure)
            ahead = "ahead of" if lead > 0 else "**behind**"
            lines.append(
                f"* **{called}** {_interval(mine, figure, d)} is {ahead} "
                f"the best of {circle}, `{best.method}` with "
                f"{_interval(best, figure, d)}"
                f"{_test(best.against.get(figure), d)}."
            )
    return ["## Where LDA stands", "\n".join(lines)]


def _interval(row: Row, figure: str, digits: int) -> str:
    return interval(row.metrics[figure].mean, row.metrics[figure].std, digits)


def _rank(figure: Summary, name: str) -> float:
    """Less is better."""
    mean = figure.mean if figure.mean is not None else float("nan")
    return mean if name in LOWER else -mean


def _test(found: Versus | None, d: int) -> str:
    if found is None:
        return ""
    low, high = found.ci
    return (
        f"; on the same users its lead is {found.difference:+.{d}f} "
        f"(95 %: {low:+.{d}f} to {high:+.{d}f}, p = {found.p_value:.3f})"
    )


def _cell(row: Row, figure: str, digits: int) -> str:
    found = row.metrics.get(figure)
    if found is None or found.mean is None:
        return "–"
    mark = MARKS[row.against[figure].verdict] if figure in row.against else ""
    text = interval(found.mean, found.std, digits) + mark
    return f"**{text}**" if row.method == REFERENCE else text


def _mean(row: Row, figure: str, digits: int) -> str:
    found = row.metrics.get(figure)
    return "–" if found is None or found.mean is None else f"{found.mean:.{digits}f}"


def _name(row: Row) -> str:
    return f"**`{row.method}`**" if row.method == REFERENCE else f"`{row.method}`"


def _table(rows: Sequence[Row]) -> list[str]:
    head = ["method", "MAE, s", "RMSE, s", "XAUC", "XGAUC", "GAUC of long view", "parameters", "epochs"]
    head += ["fit, s", "µs", "what it is"]
    body = []
    for row in rows:
        if row.refused is not None:
            body.append([_name(row), *["–"] * 9, row.refused])
            continue
        more = row.more
        figures = [("mae_s", 3), ("rmse_s", 3), ("xauc", 4), ("xgauc", 4), ("gauc_long_view", 4)]
        body.append(
            [
                _name(row),
                *(_cell(row, figure, digits) for figure, digits in figures),
                f"{more['parameters']:,.0f}",
                f"{more['epochs']:g}",
                f"{more['seconds']:.0f}",
                "–" if more["microseconds"] is None else f"{more['microseconds']:.0f}",
                row.says,
            ]
        )
    return markdown_table(head, body, text=2)


def _ablations(rows: Sequence[Row]) -> list[str]:
    mine = [row for row in rows if row.method == REFERENCE or row.more["ablation"]]
    if len(mine) < 2:
        return []
    head = ["method", "MAE, s", "XAUC", "p10 to p90 holds", "what is different"]
    body = [
        [_name(row), _cell(row, "mae_s", 3), _cell(row, "xauc", 4), _cell(row, "coverage", 3), row.says]
        for row in mine
    ]
    fits = min(len(row.metrics["mae_s"].seeds) for row in mine)
    said = f"LDA with one thing changed, each fitted with {fits} seeds or more. Marks as above."
    return ["## Ablations", said, "\n".join(markdown_table(head, body, text=2))]


def _others(rows: Sequence[Row]) -> list[str]:
    head = ["method", "XAUC, strict", "XAUC, lenient", "p10 to p90 holds"]
    return markdown_table(
        head,
        [
            [
                _name(row),
                _cell(row, "xauc_strict", 4),
                _cell(row, "xauc_lenient", 4),
                _cell(row, "coverage", 3),
            ]
            for row in rows
        ],
    )


def _groups(rows: Sequence[Row], group: str, title: str, names: Mapping[int, str]) -> list[str]:
    """MAE and XAUC of every method in every group, a table each."""
    known = {g: name for g, name in names.items() if any(f"mae_s/{group}_{g}" in r.metrics for r in rows)}
    out = [title]
    for figure, called, digits in (("mae_s", "MAE, s", 2), ("xauc", "XAUC", 4)):
        head = [called, *known.values()]
        body = [[_name(row), *(_mean(row, f"{figure}/{group}_{g}", digits) for g in known)] for row in rows]
        out.append("\n".join(markdown_table(head, body)))
    return out


def _octiles(rows: Sequence[Row]) -> dict[int, str]:
    found = rows[0].more["by_duration"] if rows else []
    return {part["group"]: f"{part['from_s']:.0f} to {part['to_s']:.0f} s" for part in found}


def _activities() -> dict[int, str]:
    ends = [*(begin - 1 for begin in ACTIVITY[1:]), None]
    names = {}
    for g, (low, high) in enumerate(zip(ACTIVITY, ends, strict=True)):
        names[g] = f"{low} and more" if high is None else f"{low}" if low == high else f"{low} to {high}"
    return {g: f"{name} exposures" for g, name in names.items()}


def _curves(rows: Sequence[Row]) -> list[str]:
    """What more epochs give: heads that reach one order and lose it again are short of rows, not of steps."""
    mine = [row for row in rows if row.more.get("curve")]
    if not mine:
        return []
    most = max(len(row.more["curve"]) for row in mine)
    body = []
    for row in mine:
        curve = [f"{e['stop_mae_s']:.3f} / {e['stop_xauc']:.4f}" for e in row.more["curve"]]
        body.append([_name(row), *curve, *["–"] * (most - len(curve))])
    said = (
        "MAE in seconds and XAUC on the early-stop days after each epoch (first seed). The epoch with the "
        "lowest MAE is kept, and a fit that does not lower it any more ends early."
    )
    head = ["method", *map(str, range(1, most + 1))]
    return ["## How far more epochs lead", said, "\n".join(markdown_table(head, body))]


def _calibration(rows: Sequence[Row]) -> list[str]:
    mine = [row for row in rows if "calibration" in row.more]
    if not mine:
        return []
    head = ["method", "below p10", "below p50", "below p90", "between p10 and p90"]
    body = [
        [
            _name(row),
            *(f"{share:.3f}" for share in row.more["calibration"]["below"]),
            f"{row.more['calibration']['coverage']:.3f}",
        ]
        for row in mine
    ]
    said = (
        "How often the watch time lies at or below a predicted quantile (first seed): 0.1, 0.5, 0.9 and 0.8 "
        "where a distribution is right."
    )
    return [
        "## Are the quantiles right?",
        said,
        "\n".join(markdown_table(head, body)),
        "![Reliability of the quantiles](reliability.png)",
    ]


def _anchors(rows: Sequence[Row]) -> list[str]:
    if not any("anchors" in row.more for row in rows):
        return []
    return [
        "## Anchors",
        "Watch ratios of the training rows in each duration group, and the ratios that LDA's anchors stand "
        "for (ticks; the longer, the more rows are nearest to it).",
        "![Watch ratios and anchors](anchors.png)",
    ]


def _gain(rows: Sequence[Row]) -> list[str]:
    mine = [row for row in rows if "gain" in row.more]
    if not mine:
        return []
    lines = [
        f"* `{row.method}`: " + ", ".join(f"{name} {share:.0%}" for name, share in row.more["gain"].items())
        for row in mine
    ]
    return ["## What the trees gain by", "\n".join(lines)]


def _refused(rows: Sequence[Row]) -> list[str]:
    lines = [f"* `{row.method}`: {row.refused}" for row in rows if row.refused is not None]
    return ["## What this log does not allow", "\n".join(lines)] if lines else []
