"""`python -m training experiment`: the arms of an experiment that a service has run, from its log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import polars as pl
import typer

from models.errors import BadInput
from models.runtime import Bundle
from models.served_log import LoggedSlate, decoded_lines, log_files
from training.ab_tests import SMALLEST_EFFECT, Analysis, analyse
from training.command_line import write_json
from training.data import DAY_MS
from training.data.readers import served_exposures
from training.evaluation.evaluate import open_bundle
from training.experiments.engine import write_report
from training.experiments.options import Json, Out
from training.experiments.render import estimate as with_interval
from training.experiments.render import number
from training.export.batch_label import label_exposures
from training.provenance import provenance
from training.staging import refuse_existing

_ASSIGNED: Final = {"user_id": pl.String(), "arm": pl.String(), "first_ms": pl.Int64()}


def experiment(
    name: Annotated[str, typer.Argument(help="of the experiment; a wrong one lists them")],
    log: Annotated[Path, typer.Option(help="the folder that a service wrote as REELRANK_LOG_DIR")],
    out: Out,
    arms: Annotated[
        str | None,
        typer.Option(help="arms, separated by commas, the control first; by default all, sorted by name"),
    ] = None,
    effect: Annotated[
        float, typer.Option(min=0.0001, help="smallest relative effect of interest, fixed before the start")
    ] = SMALLEST_EFFECT,
    bundle: Annotated[
        Path | None, typer.Option(help="a version: the sum of its first label is one more metric of all arms")
    ] = None,
    figures: Json = None,
) -> None:
    """Report how the arms of an experiment differ in every metric, as of now and on every day before."""
    names = None if arms is None else [arm.strip() for arm in arms.split(",") if arm.strip()]
    opened = None if bundle is None else open_bundle(bundle)
    report = report_experiment(name, log, out, arms=names, smallest_effect=effect, bundle=opened)
    write_json(figures, report)
    typer.echo(_table(report))
    typer.echo(f"wrote {out / 'report.md'} and report.json")


def report_experiment(
    name: str,
    log: Path,
    out: Path,
    *,
    arms: Sequence[str] | None = None,
    smallest_effect: float = SMALLEST_EFFECT,
    bundle: Bundle | None = None,
) -> dict[str, Any]:
    """Compare the arms of an experiment, and write `report.json`, `report.md` and pictures.

    It lasts from its first slate to the newest line of the log, or to its last slate and a day if that is
    earlier. Arms have equal shares, as the service makes them.

    Args:
        name: of the experiment.
        log: the folder that the service wrote as `REELRANK_LOG_DIR`.
        out: a new folder.
        arms: the control first; by default all of the log, sorted by name.
        smallest_effect: of `Analysis`.
        bundle: whose first label is the metric `label`; none without it.

    Returns:
        The content of `report.json`.

    Raises:
        BadInput: `out` exists, or the log has no such experiment, no such arm, or too few users.
    """
    refuse_existing(out)
    about = provenance()
    assigned, rankers, last_slate_ms = _assignments(log, name)
    exposures = served_exposures(log)
    if bundle is not None:
        label = label_exposures(bundle, exposures, bundle.manifest.labels[0])
        exposures = exposures.with_columns(label=pl.Series(label))
    start_ms = int(assigned["first_ms"].to_numpy().min())
    end_ms = min(last_slate_ms + DAY_MS, max(last_slate_ms, *exposures["timestamp_ms"].top_k(1))) + 1
    shares = dict.fromkeys(arms or sorted(assigned["arm"].unique()), 1.0)
    analysis = Analysis(shares, start_ms, end_ms, smallest_effect)
    figures = analyse(exposures, assigned, analysis)
    for one in figures["arms"]:
        one["rankers"] = rankers[one["arm"]]
    report = {
        "kind": "experiment",
        **about,
        "name": name,
        "control": next(iter(shares)),
        "start_ms": start_ms,
        "end_ms": end_ms,
        "smallest_effect": smallest_effect,
        "labels_of": None if bundle is None else bundle.manifest.version,
        **figures,
    }
    write_report(out, "report", report)
    return report


def _assignments(log: Path, name: str) -> tuple[pl.DataFrame, dict[str, list[dict[str, Any]]], int]:
    """Return each user's arm with the moment of the first slate; by arm the versions and weights that have
    ranked; the moment of the last slate of all."""
    rankers: dict[str, list[dict[str, Any]]] = {}
    first: dict[tuple[str, str], int] = {}
    others: set[str] = set()
    last_ms = 0
    for path in log_files(log, "slates"):
        for slate in decoded_lines(path, LoggedSlate):
            if slate.experiment == name and slate.arm is not None:
                key, moment = (slate.user_id, slate.arm), slate.timestamp_ms
                first[key] = min(first.get(key, moment), moment)
                last_ms = max(last_ms, moment)
                ranker = {"version": slate.model_version, "weights": slate.weights}
                if ranker not in (known := rankers.setdefault(slate.arm, [])):
                    known.append(ranker)
            elif slate.experiment is not None:
                others.add(slate.experiment)
    if not first:
        there = ", ".join(sorted(others)) or "no experiment"
        raise BadInput(f"{log} has no slate of an experiment {name!r}; it has {there}.")
    rows = [(user, arm, moment) for (user, arm), moment in first.items()]
    return pl.DataFrame(rows, _ASSIGNED, orient="row"), rankers, last_ms


def _table(report: dict[str, Any]) -> str:
    users = ", ".join(f"{one['arm']} {one['users']:,}" for one in report["arms"])
    lines = [f"users: {users}; sample ratio p = {report['sample_ratio_p']:.3g}"]
    if report["sample_ratio_flagged"]:
        lines.append("the arms are not as large as planned: find out why before anything below is believed")
    for metric, arms in report["metrics"].items():
        for arm, one in arms.items():
            if "difference" in one:
                relative = with_interval(one["relative"], one["relative_interval"], 4, "+")
                mean = number(one["mean"], 4)
                lines.append(f"{metric:16}{arm:16}{mean:>12}  {relative}, p = {one['p_value']:.3g}")
    lines += [f"guardrail {g['metric']}, {g['arm']}: {g['verdict']}" for g in report["guardrails"]]
    return "\n".join(lines)
