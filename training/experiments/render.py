"""Reports rendered from their JSON: Markdown by the templates beside this file, pictures by `pictures.py`.

`python -m training render FOLDER` renders a report again, for instance with a new template.
Nothing is fitted and nothing of the experiments is imported: a report is a function of its JSON alone.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from models.errors import BadInput
from training.experiments.significance import SIGNIFICANT, Json, p_value

SOURCES: Final = {
    "report.json": "report.md",
    "variants.json": "variants.md",
    "search.json": "search.md",
    "graphs.json": "report.md",
}
"""JSON file of a report's folder to the document that is rendered from it."""


class Column(NamedTuple):
    """One column of a table of methods."""

    key: str
    """A metric, or a plain number of the row."""
    title: str
    digits: int = 4
    best: Literal["max", "min", "none"] = "max"
    """Which value wins and is printed bold."""


def render(folder: Path) -> None:
    """Write the Markdown and the pictures of the report whose JSON lies in a folder.

    Args:
        folder: holds `report.json`, `variants.json`, `search.json`, or `graphs.json` with `precision.json`.

    Raises:
        BadInput: the folder holds none of them.
    """
    # matplotlib takes 0.4 s to import, which no other command should wait for.
    from training.experiments.pictures import draw

    source, report = _read(folder)
    (folder / SOURCES[source]).write_text(markdown(folder))
    draw(folder, kind_of(source, report), report)


def markdown(folder: Path) -> str:
    """Return the Markdown of the report whose JSON lies in a folder."""
    source, report = _read(folder)
    precision = folder / "precision.json"
    template = _environment().get_template(f"{kind_of(source, report)}.md.j2")
    rows = report["rows"] if isinstance(report.get("rows"), list) else []
    text = template.render(
        report=report,
        rows=rows,
        fitted=[row for row in rows if row.get("refused") is None],
        precision=json.loads(precision.read_text()) if precision.exists() else None,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def kind_of(source: str, report: Json) -> str:
    """Return the kind of a report, which is the name of its template; older ones show it by their members."""
    if source != "report.json":
        return source.removesuffix(".json")
    if "kind" in report:
        return str(report["kind"])
    members = {"costs": "objectives", "window": "audit"}
    for member, kind in members.items():
        if member in report:
            return kind
    raise BadInput(f"{source} does not say its kind, so no template is known for it; is it that of a report?")


def _read(folder: Path) -> tuple[str, Json]:
    source = next((name for name in SOURCES if (folder / name).exists()), None)
    if source is None:
        raise BadInput(f"{folder} holds none of {', '.join(SOURCES)}, so there is nothing to render.")
    report: Json = json.loads((folder / source).read_text())
    return source, report


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(("html",)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(Column=Column, SIGNIFICANT=SIGNIFICANT)
    environment.filters |= {f.__name__: f for f in FILTERS}
    return environment


# --- filters of the templates


def number(value: float | None, digits: int = 4, form: str = "") -> str:
    """Return a number with some digits, a dash where it is undefined; `form` may be `+` or `,`."""
    return "–" if value is None else f"{value:{form}.{digits}f}"


def interval(figure: Json | None, digits: int = 4) -> str:
    """Return mean ± standard deviation over the seeds: `0.5731 ± 0.0034`."""
    if figure is None or figure["mean"] is None:
        return "–"
    std = "" if figure["std"] is None else f" ± {figure['std']:.{digits}f}"
    return f"{figure['mean']:.{digits}f}{std}"


def estimate(value: float | None, ci: Sequence[float] | None, digits: int = 3, form: str = "") -> str:
    """Return a value with its confidence interval: `0.083 (0.073 to 0.093)`."""
    if value is None or ci is None:
        return "–"
    return f"{number(value, digits, form)} ({number(ci[0], digits, form)} to {number(ci[1], digits, form)})"


def percent_estimate(value: float | None, ci: Sequence[float] | None, digits: int = 2) -> str:
    """Return a share with its confidence interval, in percent and with signs."""
    if value is None or ci is None:
        return "–"
    return estimate(100 * value, (100 * ci[0], 100 * ci[1]), digits, "+")


def lead(paired: Json, digits: int = 4) -> str:
    """Return the paired lead of the reference with its interval and p value, and if it is significant."""
    low, high = paired["ci"]
    verdict = "significant" if p_value(paired) < SIGNIFICANT else "not significant"
    return (
        f"{paired['difference']:+.{digits}f} (95 % CI {low:+.{digits}f} to {high:+.{digits}f}, "
        f"p = {p_value(paired):.3f}, {verdict})"
    )


def cells(row: Json, columns: Sequence[Column], rows: Sequence[Json]) -> str:
    """Return the cells of one row of a table, the best value among `rows` bold.

    ▲ marks a method that is significantly better than the reference, ▼ one that is significantly worse.
    """
    return " | ".join(_cell(row, column, rows) for column in columns)


def has_metric(rows: Iterable[Json], column: Column) -> list[Json]:
    """Return the rows that have a metric, in their order."""
    return [row for row in rows if _value(row, column) is not None]


def ranked(rows: Iterable[Json], column: Column) -> list[Json]:
    """Return the rows that have a metric, best first."""
    sign = 1 if column.best == "min" else -1
    known = [row for row in rows if _value(row, column) is not None]
    return sorted(known, key=lambda row: sign * (_value(row, column) or 0.0))


def summarize(values: Iterable[float]) -> dict[str, float | None]:
    """Return mean and sample standard deviation, undefined for no value and for a single one."""
    known = list(values)
    return {
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def adjusted(rows: Iterable[Json]) -> bool:
    """Return whether p values are corrected for the number of comparisons."""
    return any("p_adjusted" in paired for row in rows for paired in row["against"].values())


def changes(variant: Json) -> str:
    """Return the hyperparameters that a variant changes: `lda.rank=30.0, loop.epochs=8`."""
    method = [] if variant["method"] == "lda" else [f"method={variant['method']}"]
    parts = ((part, variant["changes"].get(part, {})) for part in ("encoder", "loop", "lda"))
    return ", ".join(
        [*method, *(f"{part}.{name}={value}" for part, new in parts for name, value in new.items())]
    )


def extreme_groups(biases: Json, names: Sequence[str]) -> tuple[str, str] | None:
    """Return the most over- and the most under-represented group with share shown / share logged.

    Groups with less than 2 % of the logged exposures are ignored.
    """
    ratio = {
        name: share / logged
        for name, share, logged in zip(names, biases["share"], biases["logged"], strict=True)
        if logged >= 0.02
    }
    if not ratio:
        return None
    most, least = max(ratio, key=lambda name: ratio[name]), min(ratio, key=lambda name: ratio[name])
    return f"{most} ({ratio[most]:.2f}x)", f"{least} ({ratio[least]:.2f}x)"


def _value(row: Json, column: Column) -> float | None:
    if column.key in row:
        plain: float | None = row[column.key]
        return plain
    mean: float | None = row.get("metrics", {}).get(column.key, {}).get("mean")
    return mean


def _cell(row: Json, column: Column, rows: Sequence[Json]) -> str:
    if column.key in row:
        return number(row[column.key], column.digits, ",")
    text = interval(row["metrics"].get(column.key), column.digits)
    if column.best != "none" and text != "–":
        best = ranked(rows, column)[0]["metrics"][column.key]["mean"]
        text = f"**{text}**" if row["metrics"][column.key]["mean"] == best else text
    paired = row["against"].get(column.key)
    if paired is None or p_value(paired) >= SIGNIFICANT:
        return text
    return text + (" ▼" if paired["difference"] > 0 else " ▲")


FILTERS: Final = (
    number, interval, estimate, percent_estimate, lead, has_metric, cells, ranked, summarize, p_value,
    adjusted, changes, extreme_groups,
)  # fmt: skip
"""Filters of the templates, by their own names."""
