"""Rows of a report: figures over the seeds, and the paired difference of the reference to each method."""

# Shape suffixes: M methods, U users.

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.arrays import F64
from training.evaluation.bootstrap import Measure, paired_bootstrap

Row = dict[str, Any]
"""One method of `report.json`: `method`, `says`, `refused`, `metrics`, `against`, and more."""
UserValues = Mapping[str, Sequence[float]]
"""By figure, one value for each user `[U]`."""


class SeedSummary(NamedTuple):
    """A figure over the seeds."""

    mean: float | None
    std: float | None
    """Sample standard deviation; `None` for a single seed."""
    seeds: list[float | None]


class PairedDifference(NamedTuple):
    """The reference's figure minus a method's, over the same users; more is better in every figure."""

    difference: float
    p_value: float
    ci: tuple[float, float]
    relative_improvement: float | None
    """difference / the method's figure; `None` where that is 0."""


def summarize_seeds(values: Sequence[float | None]) -> SeedSummary:
    """Return mean and standard deviation over the seeds, undefined if one of the values is."""
    defined = [value for value in values if value is not None]
    if not defined or len(defined) < len(values):
        return SeedSummary(None, None, list(values))
    std = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
    return SeedSummary(float(np.mean(defined)), std, list(values))


def average_seeds(values: Sequence[UserValues]) -> dict[str, F64]:
    """Return each user's values averaged over the seeds: the bootstrap resamples users, not fits."""
    return {name: np.mean([seed[name] for seed in values], axis=0) for name in values[0]}


def paired_differences(
    reference: Mapping[str, F64],
    methods: Sequence[Mapping[str, F64]],
    measures: Mapping[str, Measure],
    *,
    resamples: int,
    seed: int,
) -> list[dict[str, PairedDifference]]:
    """Return the reference's difference to each method in every figure, user by user.

    Every figure of every method is a test of its own; p values are not corrected for their number.

    Args:
        reference: `[U]` values of the reference.
        methods: `[U]` values of the methods.
        measures: how values make figures.
        resamples, seed: of the bootstrap.
    """
    differences: list[dict[str, PairedDifference]] = [{} for _ in methods]
    for name, (values, weight_U) in measures.items():
        if values not in reference or not methods:
            continue
        method_MU = np.stack([method[values] for method in methods])
        tests = paired_bootstrap(reference[values] - method_MU, weight_U, resamples=resamples, seed=seed)
        for row, method_U, test in zip(differences, method_MU, tests, strict=True):
            if test is not None:
                figure = float(np.average(method_U, weights=weight_U))
                improvement = test.difference / figure if figure else None
                row[name] = PairedDifference(**asdict(test), relative_improvement=improvement)
    return differences


def mean_of(row: Row, figure: str) -> float:
    """Return a row's mean of a figure over the seeds, 0 where it is undefined."""
    mean: float | None = row["metrics"][figure]["mean"]
    return mean or 0.0


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report with 6 digits a figure and one line a row, so that two reports compare by eye."""
    members = []
    for name, value in _rounded(report).items():
        text = json.dumps(value, indent=None if name == "surfaces" else 1)
        if name == "rows":
            text = "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        members.append(f" {json.dumps(name)}: {text}")
    path.write_text("{\n" + ",\n".join(members) + "\n}\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: _rounded(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(member) for member in value]
    return value
