"""The audit's report, made of nothing but `report.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.compare._report import markdown_table
from training.compare.audit._bias import FEW_USERS

Row = Mapping[str, Any]

MENTIONED: Final = 0.02
"""Groups with a smaller share of the log are not singled out in sentences."""
GROUPED: Final = (
    ("duration", "Duration", "minutes of duration"),
    ("popularity", "Popularity of videos", "tenths of the videos, by exposures before the window"),
)

_HOW = """\
Each user's own rows of the window are put in the order of a score; what lies in the first k = {k} places is
shown. Users with more than k rows are judged. Rows a score does not tell apart come in a random order.
Bundles, runs and `lda` know of a user what came before the window, as of one request for all these rows;
SASRec4SV's heads and DIN, whose histories say little of outcomes or nothing, what came before each row.

* **Relevant** is what was watched for more than {threshold:g} standard deviation above the mean of its
  minute of duration (watch-time gain, WTG), by means and deviations of the rows before the window:
  {relevant:.1%} of the rows.
* **Share shown / logged**: a group's share of the first k places, over its share of what the same users were
  shown, each user weighing the same in both. 1 is no bias; a random order has 1 but for chance.
* **Distance**: half the sum of the differences of these shares: how many of the places would have to go to
  another group. **nDCG**: of the relevant rows in the whole list. **nDCG of a group**: only its relevant rows
  count, less what a random order would have. Below 0 the group's relevant rows are pushed out of the lists.
  **Gap**: the best group less the worst, of those with {few} users or more.
* **Labels** are audited as if they were known: the order a recommender would give that had learned them
  perfectly. What bias they have, a recommender that is fitted to them is asked for.
* Intervals are the middle 95 % over resampled users. A resample deals places out a little more unevenly
  than its users did, so the interval of a distance near 0 lies above it: compare with `random`."""


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report."""
    window, config, rows = report["window"], report["config"], report["rows"]
    encoders = [row for row in rows if row["kind"] == "encoder"]
    parts = [
        f"# Audit on {window['dataset']}",
        f"`{report['command']}`",
        f"Commit `{report['commit']}`, {report['machine']}. {window['days'][0]} to {window['days'][1]}: "
        f"{window['rows']:,} exposures of {window['users']:,} users, of whom "
        f"{rows[0]['users']['whole']['users']:,} have more than {config['k']} "
        f"({window['source']}; {window['licence']}).",
        "## How to read it",
        _HOW.format(k=config["k"], threshold=config["threshold"], relevant=window["relevant"], few=FEW_USERS),
        "## In one line each",
        _overview(rows, bool(window["user_groups"])),
        "\n".join(f"* `{row['name']}`: {row['says']}." for row in rows if row["kind"] != "label"),
    ]
    for key, title, of in GROUPED:
        parts += _grouped(rows, key, title, of, window[f"{key}_groups"])
    parts += _users(rows, window["user_groups"])
    parts += _half(encoders)
    parts += _probe(encoders)
    return "\n\n".join(parts) + "\n"


def _overview(rows: Sequence[Row], users: bool) -> str:
    head = ["", "nDCG", "NWTG", "distance, duration", "gap, duration", "distance, popularity", "MAE, s"]
    head += ["NWTG, first less second group of users"] if users else []
    body = []
    for row in rows:
        whole = row["users"]["whole"]
        cells = [
            _number(whole["ndcg"]),
            _number(whole["nwtg"]),
            _between(row["duration"]["distance"], row["duration"]["distance_ci"]),
            _between(row["duration"]["gap"], row["duration"]["gap_ci"]),
            _between(row["popularity"]["distance"], row["popularity"]["distance_ci"]),
            _number(whole["mae_s"], 2),
        ]
        cells += [_between(row["users"]["gap"], row["users"]["gap_ci"], signed=True)] if users else []
        body.append([_name(row), *cells])
    return "\n".join(markdown_table(head, body))


def _grouped(
    rows: Sequence[Row], key: str, title: str, of: str, groups: Sequence[Mapping[str, Any]]
) -> list[str]:
    names = [group["name"] for group in groups]
    shares = ["share logged", *(f"{share:.1%}" for share in rows[0][key]["logged"])]
    relevant = ["relevant", *("–" if g["relevant"] is None else f"{g['relevant']:.1%}" for g in groups)]
    users = ["users with any", *map(str, rows[0][key]["users"])]
    share = [[_name(row), *(_ratio(*pair) for pair in _pairs(row[key], "share", "logged"))] for row in rows]
    lift = [[_name(row), *(_lift(*pair) for pair in _pairs(row[key], "ndcg", "chance"))] for row in rows]
    return [
        f"## {title}",
        _mentioned(rows, key, names),
        f"Groups are {of}. Share shown over share logged:",
        "\n".join(markdown_table(["", *names], [shares, relevant, *share])),
        f"![Share shown over share logged]({key}.png)",
        "nDCG of each group's relevant rows, above a random order:",
        "\n".join(markdown_table(["", *names], [users, *lift])),
        f"![nDCG of each group above a random order]({key}-ndcg.png)",
    ]


def _mentioned(rows: Sequence[Row], key: str, names: Sequence[str]) -> str:
    """Of each encoder the group it favours most and the one it favours least, among those worth 2 %."""
    lines = []
    for row in rows:
        found = row[key]
        known = [g for g, logged in enumerate(found["logged"]) if logged >= MENTIONED]
        if row["kind"] != "encoder" or not known:
            continue
        times = {g: found["share"][g] / found["logged"][g] for g in known}
        most, least = max(times, key=lambda g: times[g]), min(times, key=lambda g: times[g])
        lines.append(
            f"* {_name(row)} would move {found['distance']:.1%} of the places; most over its share: "
            f"{names[most]} ({times[most]:.2f}x), least: {names[least]} ({times[least]:.2f}x)."
        )
    return "\n".join(lines) or "No encoder is audited."


def _users(rows: Sequence[Row], groups: Sequence[Mapping[str, Any]] | None) -> list[str]:
    if groups is None:
        return ["## Users", "This log does not have the number that users are split by."]
    head = ["", "users", "rows", "with more than k", "NWTG", "nDCG", "GAUC of long view", "MAE, s"]
    body = [
        [
            _name(row),
            group["name"],
            f"{group['rows']:,}",
            f"{group['users']:,}",
            _number(group["nwtg"]),
            _number(group["ndcg"]),
            _number(group["gauc_long_view"]),
            _number(group["mae_s"], 2),
        ]
        for row in rows
        if row["kind"] != "label"
        for group in (row["users"]["whole"], *row["users"]["groups"])
    ]
    lines = [
        f"* {_name(row)}: {verdict(row['users'])}"
        for row in rows
        if row["kind"] == "encoder" and row["users"]["gap"] is not None
    ]
    return [
        "## Users",
        "\n".join(lines),
        "\n".join(markdown_table(head, body)),
        "![NWTG of each group of users](users.png)",
    ]


def verdict(users: Mapping[str, Any]) -> str:
    """The gap between two groups of users in a sentence."""
    first, second = users["groups"][0]["name"], users["groups"][1]["name"]
    low, high = users["gap_ci"]
    said = f"NWTG {users['gap']:+.3f} ({low:+.3f} to {high:+.3f})"
    if low <= 0 <= high:
        return f"no difference that this window can tell, {said}."
    more, less = (first, second) if low > 0 else (second, first)
    return f"users of *{more}* are served better than those of *{less}*, {said}."


def _half(encoders: Sequence[Row]) -> list[str]:
    mine = [row for row in encoders if row["users"]["whole"]["half"] is not None]
    if not mine:
        return []
    head = ["", "users", "accuracy", "always no", "precision", "recall", "F1"]
    body = []
    for row in mine:
        for group in (row["users"]["whole"], *row["users"]["groups"]):
            half = group["half"]
            counts = half["counts"]
            negative = counts["true_negative"] + counts["false_positive"]
            always = negative / max(sum(counts.values()), 1)
            figures = (half[name] for name in ("precision", "recall", "f1"))
            body.append(
                [
                    _name(row),
                    group["name"],
                    _number(half["accuracy"]),
                    _number(always),
                    *map(_number, figures),
                ]
            )
    return [
        "## Is more than half watched?",
        "Pooled over the judged rows; padding has no part in them. *Always no* is the accuracy of a model "
        "that never says yes: accuracy alone says little.",
        "\n".join(markdown_table(head, body)),
    ]


def _probe(encoders: Sequence[Row]) -> list[str]:
    mine = [row for row in encoders if row["probe"]]
    if not mine:
        return []
    head = ["", "answer", "candidate", "requests", "before", "change", "fell"]
    body = []
    for row in mine:
        for answer, kinds in row["probe"].items():
            for kind, found in kinds.items():
                digits = 3 if answer == "watch_time_s" else 4
                change = _between(found["change"], found["ci"], signed=True, digits=digits)
                before = _number(found["before"], digits)
                body.append(
                    [_name(row), answer, kind, str(found["requests"]), before, change, f"{found['fell']:.0%}"]
                )
    return [
        "## A whole view that becomes a skip",
        "One step of a history, watched to its end and none of the newest, was skipped instead: what that "
        "takes from candidates of its author, of its tag by somebody else, and of neither. *similar* is the "
        "nearer of the first two less the unrelated one of the same request. The first two should fall, "
        "the third hardly move.",
        "\n".join(markdown_table(head, body)),
        "![What a whole view that becomes a skip does](probe.png)",
    ]


def _pairs(of: Mapping[str, Any], *keys: str) -> list[tuple[float | None, float | None]]:
    return list(zip(*(of[key] for key in keys), strict=True))


def _ratio(share: float | None, logged: float | None) -> str:
    return f"{share / logged:.2f}" if logged and share is not None else "–"


def _lift(found: float | None, chance: float | None) -> str:
    return "–" if found is None or chance is None else f"{found - chance:+.3f}"


def _name(row: Row) -> str:
    return f"`{row['name']}`"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _between(
    value: float | None, ci: Sequence[float] | None, *, signed: bool = False, digits: int = 3
) -> str:
    if value is None or ci is None:
        return "–"
    sign = "+" if signed else ""
    return f"{value:{sign}.{digits}f} ({ci[0]:{sign}.{digits}f} to {ci[1]:{sign}.{digits}f})"
