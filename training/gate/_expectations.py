"""Expectations beside what was found: figures of the evaluation, behaviours, an estimate, an experiment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.errors import BadInput
from models.manifest import Evaluation, Manifest
from models.runtime import Bundle
from training.gate._behaviours import count_behaviours
from training.gate._requirements import (
    BEHAVIOURS,
    LOWER_IS_BETTER,
    Bounds,
    EstimateRequirement,
    ExperimentRequirement,
    Requirements,
)

_CONSTANTS: Final = {"mae_s": "median", "rmse_s": "mean"}
"""The baseline whose error on the same days says how hard they are."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One of them, and what became of it."""

    about: str
    expected: str
    found: str
    is_met: bool


def check_requirements(
    requirements: Requirements, folder: Path, active: Manifest | None
) -> list[Expectation]:
    """Hold a version to requirements.

    Figures are compared with those of the active version on the same days where `active_evaluation` has them,
    otherwise on its own test days if both were fitted on the same data set. Errors are taken as shares of
    those of a constant, since days differ in how hard they are.

    Args:
        requirements: what is asked for.
        folder: of the version.
        active: the version that answers now; `None` if there is none, or it is this one.

    Raises:
        BundleNotFound, CorruptBundle, ContractMismatch, SelfTestFailed: see `Bundle.load`.
        BadInput: a file of an estimate or experiment cannot be read.
    """
    manifest = Manifest.read(folder)
    found = [*_metrics(requirements, manifest, active)]
    if requirements.behaviours:
        found += _behaviours(requirements.behaviours, count_behaviours(Bundle.load(folder)))
    if requirements.estimate is not None:
        found.append(_estimate(requirements.estimate, manifest))
    if requirements.experiment is not None:
        found.append(_experiment(requirements.experiment, manifest))
    return found


def table(expectations: Sequence[Expectation]) -> str:
    """Return expectations as a table in Markdown, without an end of line."""
    rows = [
        f"| {each.about} | {each.expected} | {each.found} | {'yes' if each.is_met else '**no**'} |"
        for each in expectations
    ]
    return "\n".join(["| | expected | found | met |", "|---|---|---|---|", *rows])


def _metrics(
    requirements: Requirements, manifest: Manifest, active: Manifest | None
) -> Iterator[Expectation]:
    file = requirements.active_evaluation
    other = None if active is None else active.evaluation
    if file is not None and active is not None:
        other = _on_the_same_days(file, manifest, active)
    for metric, tolerance in requirements.not_worse_by.items():
        about, expected = f"`{metric}`", f"at most {tolerance:.1%} worse than the active version's"
        if active is None:
            yield Expectation(about, expected, "no other version is active", is_met=True)
            continue
        if file is not None and other is None:
            missing = f"{file.name} is not of {active.version} on this version's test days"
            yield Expectation(about, expected, missing, is_met=False)
            continue
        if file is None and (reason := _incomparable(metric, manifest, active)) is not None:
            yield Expectation(about, expected, reason, is_met=True)
            continue
        old, new = (None if one is None else _figure(metric, one) for one in (other, manifest.evaluation))
        if old is None or new is None:
            yield Expectation(about, expected, "it was not evaluated", is_met=False)
            continue
        worse_by = (new - old if metric.startswith(LOWER_IS_BETTER) else old - new) / abs(old)
        found = f"{abs(worse_by):.1%} {'worse' if worse_by > 0 else 'better'} than {active.version}"
        yield Expectation(about, expected, found, is_met=worse_by <= tolerance)


def _on_the_same_days(file: Path, manifest: Manifest, active: Manifest) -> Evaluation | None:
    """Return what `evaluate` found of the active version, if that was on the other version's test days."""
    found = _read(file)
    if manifest.evaluation is None or found.get("evaluated") != active.version:
        return None
    days = {"from_ms": manifest.evaluation.from_ms, "to_ms": manifest.evaluation.to_ms, "tab": None}
    if found.get("window") != days:
        return None
    figures = {name: found.get(name) for name in manifest.evaluation.metrics}
    return manifest.evaluation.model_copy(update={"metrics": figures, "baselines": found["baselines"]})


def _incomparable(metric: str, manifest: Manifest, active: Manifest) -> str | None:
    if active.training.dataset != manifest.training.dataset:
        return f"{active.version} was fitted on {active.training.dataset}"
    if active.evaluation is None or active.evaluation.metrics.get(metric) is None:
        return f"{active.version} has none"
    return None


def _figure(metric: str, evaluation: Evaluation) -> float | None:
    """Return a metric, errors as shares of that of the constant, if it is known."""
    figure = evaluation.metrics.get(metric)
    constant = evaluation.baselines.get(_CONSTANTS.get(metric, ""), {}).get(metric)
    return figure if figure is None or not constant else figure / constant


def _behaviours(required: Mapping[str, Bounds], counted: Mapping[str, float]) -> Iterator[Expectation]:
    for name, bounds in required.items():
        limits = [f"at least {bounds.least:.1%}"] * (bounds.least > 0)
        limits += [f"at most {bounds.most:.1%}" if bounds.most > 0 else "none"] * (bounds.most < 1)
        expected = " and ".join(limits) or "any share"
        share = counted.get(name)
        if share is None:
            yield Expectation(BEHAVIOURS[name], expected, "the bundle knows no authors", is_met=True)
        else:
            is_met = bounds.least <= share <= bounds.most
            yield Expectation(BEHAVIOURS[name], expected, f"{share:.1%}", is_met=is_met)


def _estimate(required: EstimateRequirement, manifest: Manifest) -> Expectation:
    found = _read(required.file)
    try:
        about = f"estimate of `{found['reward']}` a slate"
        expected = f"at least {required.least_difference:+.3g} than the log, by the interval's lower end"
        if (of := (found["bundle"], found["weights"])) != (manifest.version, dict(manifest.weights)):
            return Expectation(about, expected, f"it is of {of[0]} with weights {of[1]}", is_met=False)
        if found["refused"] is not None:
            return Expectation(about, expected, f"refused: {found['refused']}", is_met=False)
        row = next(row for row in found["estimates"] if row["method"] == found["method"])
        low, high = row["difference_interval"]
        text = f"{row['difference']:+.3g} ({low:+.3g} to {high:+.3g}), {row['method']}"
    except (KeyError, TypeError, ValueError, StopIteration) as e:
        raise BadInput(f"{required.file} is not what `estimate --json` writes ({e!r}).") from None
    return Expectation(about, expected, text, is_met=low >= required.least_difference)


def _experiment(required: ExperimentRequirement, manifest: Manifest) -> Expectation:
    found = _read(required.file)
    about = f"experiment, `{required.metric}` a user"
    expected = f"at least {required.least_relative:+.1%} than the control, by the interval's lower end"
    try:
        ranker = {"version": manifest.version, "weights": dict(manifest.weights)}
        arms = [one["arm"] for one in found["arms"] if one["rankers"] == [ranker]]
        treatments = [arm for arm in arms if arm != found["control"]]
        if len(treatments) != 1:
            other = f"no arm beside the control was ranked by {manifest.version} alone, with its weights"
            return Expectation(about, expected, other, is_met=False)
        if found["sample_ratio_flagged"]:
            return Expectation(about, expected, "the arms are not as large as planned", is_met=False)
        violated = [
            guard["metric"]
            for guard in found["guardrails"]
            if guard["arm"] == treatments[0] and guard["verdict"] == "violated"
        ]
        if violated:
            return Expectation(about, expected, f"guardrail {', '.join(violated)} is violated", is_met=False)
        figures = found["metrics"][required.metric][treatments[0]]
        low, high = figures["always_valid_relative_interval"]
        text = f"{figures['relative']:+.1%} ({low:+.1%} to {high:+.1%})"
    except (KeyError, TypeError, ValueError) as e:
        raise BadInput(
            f"{required.file} is not what `experiment` writes of {required.metric} ({e!r})."
        ) from None
    return Expectation(about, expected, text, is_met=low >= required.least_relative)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise BadInput(f"{path} cannot be read ({e}); requirements name it.") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path} is no object of JSON; requirements name it.")
    return content
