"""The sections of the label report that explain its table, every sentence made from its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from training.compare._report import Row, markdown_table
from training.compare._stand import interval, order
from training.compare.labels._assemble import Findings, Front
from training.compare.labels._columns import digits, title
from training.compare.labels._world import CompareConfig

_FEW_USERS: Final = 500
"""Below this many judged users the report warns of their number."""


def why_no_row_leads(findings: Findings) -> list[str]:
    """Who leads a column and where that row stands in the others; what fixed mixes reach."""
    rows = findings.plain()
    columns = [column for column in findings.columns() if len(_means(rows, column)) > 1]
    leaders = {column: order(rows, column)[0].method for column in columns}
    winners = set(leaders.values())
    lines = [
        f"* {title(column)} is the same in every row."
        for column in findings.columns()
        if column not in columns
    ]
    for column, leader in leaders.items():
        places = [
            f"number {_place(rows, leader, other)} of {len(order(rows, other))} in {title(other)}"
            for other in columns
            if other != column
        ]
        where = f", which is {' and '.join(places)}" if len(winners) > 1 else ""
        lines.append(f"* {title(column)} is led by `{leader}`{where}.")
    head = "## Why no row leads every column" if len(winners) > 1 else "## One row leads every column"
    parts = [head, "\n".join(lines)]
    if findings.front is not None:
        parts += _mixes(findings, findings.front)
    else:
        parts.append("The front of fixed mixes needs the rows `wt` and `ef`; this report lacks one of them.")
    return [*parts, "![NWTG against NEG](front.png)"]


def _mixes(findings: Findings, front: Front) -> list[str]:
    x, y, _ = findings.columns()
    one, other = front.of
    head = ["a", *map(title, findings.columns())]
    body = [
        [f"{share:.1f}", *(interval(metrics[n].mean, metrics[n].std, digits(n)) for n in findings.columns())]
        for share, metrics in front.points
    ]
    parts = [
        f"How much {title(x)} does {title(y)} cost on this log? Take the recommenders fitted on `{one}` and "
        f"on `{other}`, and sort each user's exposures by (1 − a) · place by `{one}` + a · place by "
        f"`{other}`. No label is learned or changed: the line of these mixes is what anybody gets who weighs "
        "two recommenders, and a row shows more than that only if it lies beyond:",
        "\n".join(markdown_table(head, body)),
    ]
    far = sorted(((m, name) for name, m in front.beyond.items() if m > 0), reverse=True)
    named = ", ".join(f"`{name}` (by {margin:.4f})" for margin, name in far)
    parts.append(
        f"Beyond the line (no mix has as much of both; in brackets the smaller lead): {named}."
        if far
        else "No row lies beyond the line: for each, some mix has as much of both."
    )
    reference = findings.reference
    if reference is not None:
        margin = front.beyond[reference.method]
        std = max((reference.metrics[n].std or 0.0) for n in (x, y))
        noise = f" (Over the seeds, its figures deviate by up to {std:.4f}.)" if std else ""
        parts.append(
            f"LabelCraft lies {abs(margin):.4f} {'beyond' if margin > 0 else 'behind'} the line.{noise}"
            + _why_not(findings, reference, front)
        )
    return parts


def _why_not(findings: Findings, reference: Row, front: Front) -> str:
    """What the columns that LabelCraft does not lead have to do with the front."""
    lost = [stand for stand in findings.standings if stand.among == "all" and not stand.within]
    if not lost:
        return ""
    x, y, _ = findings.columns()
    said = []
    for stand in lost:
        if stand.figure not in (x, y):
            continue
        leader = next(row for row in findings.rows if row.method == stand.first)
        other = y if stand.figure == x else x
        theirs, ours = leader.metrics[other].mean or 0.0, reference.metrics[other].mean or 0.0
        how = (
            f"pays for it with {ours - theirs:.4f} of {title(other)} against LabelCraft"
            if theirs < ours
            else f"has {theirs - ours:.4f} more of {title(other)} than LabelCraft, too"
        )
        said.append(f" `{stand.first}`, which leads {title(stand.figure)}, {how}.")
    best_x = max(point.metrics[x].mean or 0.0 for point in front.points)
    best_y = max(point.metrics[y].mean or 0.0 for point in front.points)
    said.append(
        f" Along the line {title(x)} reaches {best_x:.4f} and {title(y)} {best_y:.4f}, each at another a."
    )
    return "".join(said)


def durations(findings: Findings) -> list[str]:
    """Explicit feedback and watching by length, and how labels and scores follow length."""
    head = ["duration, s", "exposures", "explicit feedback", "mean watch time, s", "watched share"]
    body = [
        [
            f"{o.from_s:.1f} to {o.to_s:.1f}",
            f"{o.rows:,}",
            f"{o.explicit_share:.2%}",
            f"{o.watch_time_s:.1f}",
            f"{o.watch_ratio:.2f}",
        ]
        for o in findings.octiles
    ]
    liked = max(findings.octiles, key=lambda o: o.explicit_share)
    watched = max(findings.octiles, key=lambda o: o.watch_time_s)
    k = findings.cuts[-1]
    names = ["label_duration_correlation", "score_duration_correlation", f"recommended_duration_s@{k}"]
    rows = [
        [f"`{row.method}`", *(_number(row, name) for name in names)]
        for row in findings.rows
        if row.refused is None
    ]
    return [
        "## Durations",
        "Eighths of the train and meta days by duration:",
        "\n".join(markdown_table(head, body)),
        f"Explicit feedback is most frequent from {liked.from_s:.1f} to {liked.to_s:.1f} s, watch time is "
        f"longest from {watched.from_s:.1f} to {watched.to_s:.1f} s"
        + (
            ": a list that is sorted by one of them shows other lengths than a list sorted by the other."
            if liked != watched
            else "."
        ),
        "Rank correlation of label and duration (train and meta days) and of score and duration (test days), "
        f"and how long the videos in the first {k} places are:",
        "\n".join(
            markdown_table(["method", "label ~ duration", "score ~ duration", "mean duration shown, s"], rows)
        ),
        "![Durations shown by each method](durations.png)",
    ]


def labels(findings: Findings) -> list[str]:
    """The label makers as pictures, and LabelCraft's way there."""
    parts = [
        "## The labels",
        "Makers that compare within user or video groups are drawn for an exposure of no known group:",
        "![Labels over watch time and duration](labels.png)",
    ]
    if findings.reference is not None:
        parts.append("![The objectives while LabelCraft learns](learning.png)")
    return parts


def falls_short(findings: Findings, config: CompareConfig, notes: Sequence[str]) -> list[str]:
    """What a reader must not read into the table."""
    lines = [f"* {note}" for note in notes]
    lines += [
        f"* `{row.method}` cannot work on this log: {row.refused}"
        for row in findings.rows
        if row.refused is not None
    ]
    k, users = findings.cuts[-1], findings.judged_users
    if users < _FEW_USERS:
        lines.append(
            f"* Only {users} users have more than {k} exposures in the test window: differences below the "
            "intervals above say nothing, whoever is ahead."
        )
    if config.seeds == 1:
        lines.append("* One seed: nothing is known of what another start changes.")
    lines.append(
        "* Lists are orders of what each user was shown by a policy of its own; what a method would show "
        "from all videos is not known from a log."
    )
    return ["## What falls short", "\n".join(lines)]


def times(findings: Findings) -> list[str]:
    """Seconds of a fit, on one thread."""
    rows = [
        [
            f"`{row.method}`",
            *(f"{row.more['seconds'][part]:.1f}" for part in ("labels", "recommender")),
            _number(row, "epochs"),
        ]
        for row in findings.rows
        if row.refused is None
    ]
    head = ["method", "labels, s", "recommender, s", "epochs of the recommender"]
    return ["## Time", "Mean of a fit, one thread each:", "\n".join(markdown_table(head, rows))]


def _means(rows: Sequence[Row], column: str) -> set[float | None]:
    return {row.metrics[column].mean for row in rows}


def _place(rows: Sequence[Row], method: str, column: str) -> int:
    return 1 + [row.method for row in order(rows, column)].index(method)


def _number(row: Row, name: str) -> str:
    figure = row.metrics.get(name)
    return "–" if figure is None else interval(figure.mean, figure.std, digits(name))
