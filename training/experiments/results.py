"""Rows of a report, and its file."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.arrays import F64

Row = dict[str, Any]
"""One method of `report.json`: `method`, `says`, `refused`, `metrics`, `against`, and more."""


class SeedSummary(NamedTuple):
    """A figure over the seeds."""

    mean: float | None
    std: float | None
    """Sample standard deviation; `None` for a single seed."""
    seeds: list[float | None]


def encode(values_V: F64) -> str:
    """Return values as text for a result: a tenth of the memory that a list of numbers takes."""
    return base64.b64encode(values_V.astype("<f4").tobytes()).decode()


def decode(text: str) -> F64:
    """Return the values of `encode`, `[V]` with seven digits."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)


def summarize_seeds(values: Sequence[float | None]) -> SeedSummary:
    """Return mean and standard deviation over the seeds, undefined if one of the values is."""
    defined = [value for value in values if value is not None]
    if not defined or len(defined) < len(values):
        return SeedSummary(None, None, list(values))
    std = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
    return SeedSummary(float(np.mean(defined)), std, list(values))


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
