"""A run -> the figures people compare: rates, percentiles, what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from loadtests.load.connections import GONE
from loadtests.load.open_loop import Run
from models.arrays import F64

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}

CURVE: Final = (0.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99, 100.0)
"""Percentiles of a curve: as many to each nine."""

REFUSED: Final = 429
"""A refusal of admission is not an error: it is what a full service should say."""


def figures(run: Run) -> dict[str, Any]:
    """Of one run.

    Returns:
        `requests`, `rate` (due a second) and `goodput` (answered 200 a second, until the last answer came),
        `statuses`, `errors` (the share that is neither 200 nor 429), `ms` (percentiles of the latency of
        what was answered 200, from the moment it was due), `unsent_ms` (p99 of how long a request waited in
        the driver, mostly for a free connection), `driver_late_ms` (p99 of the driver's own lateness in that:
        where it is near the latencies, the driver was the bottleneck).
    """
    good = run.status == 200
    span = float(run.due_s[-1]) if len(run.due_s) > 1 else run.seconds
    wrong = ~(good | (run.status == REFUSED))
    return {
        "requests": len(run.status),
        "rate": round(len(run.status) / span, 1),
        "goodput": round(float(good.sum()) / max(span, run.seconds), 1),
        "statuses": statuses(run),
        "errors": round(float(wrong.mean()), 6),
        "ms": percentiles_ms(run.latency_s[good]),
        "unsent_ms": round(float(np.percentile(run.late_s, 99)) * 1e3, 3),
        "driver_late_ms": round(float(np.percentile(run.behind_s, 99)) * 1e3, 3),
    }


def statuses(run: Run) -> dict[str, int]:
    """How many answers had which status; `gone` are those that never came."""
    names, counts = np.unique(run.status, return_counts=True)
    return {
        "gone" if s == GONE else str(s): int(n) for s, n in zip(names.tolist(), counts.tolist(), strict=True)
    }


def percentiles_ms(seconds: F64) -> dict[str, float]:
    """Percentiles in milliseconds; of the samples themselves, there is nothing to bin at these counts."""
    if not len(seconds):
        return {}
    return {name: _ms(seconds, q) for name, q in PERCENTILES.items()}


def curve(run: Run) -> list[tuple[float, float]]:
    """Percentile and milliseconds of what was answered 200, for a picture. Percentiles that so few samples do
    not have are left out."""
    good = run.latency_s[run.status == 200]
    has = [q for q in CURVE if q == 100.0 or len(good) * (100.0 - q) >= 100.0]
    return [(q, _ms(good, q)) for q in has] if len(good) else []


def by_second(run: Run) -> list[dict[str, Any]]:
    """What became of the requests that were due in each second: how many were `good`, `refused`, `wrong`, and
    the p99 of the good ones in milliseconds, `None` without any."""
    found = []
    second = np.floor(run.due_s).astype(np.int64)
    for at in range(int(second[-1]) + 1):
        here = second == at
        good = here & (run.status == 200)
        refused = here & (run.status == REFUSED)
        found.append(
            {
                "second": at,
                "good": int(good.sum()),
                "refused": int(refused.sum()),
                "wrong": int(here.sum() - good.sum() - refused.sum()),
                "p99_ms": _ms(run.latency_s[good], 99.0) if good.any() else None,
            }
        )
    return found


def within(found: Mapping[str, Any], *, p99_ms: float, errors: float) -> bool:
    """Whether a run kept to an objective: its p99, its errors, and that nothing was refused."""
    refused = found["statuses"].get(str(REFUSED), 0)
    kept = found["errors"] <= errors and refused <= errors * found["requests"]
    return bool(kept and found["ms"] and found["ms"]["p99"] <= p99_ms)


def _ms(seconds: F64, percentile: float) -> float:
    return round(float(np.percentile(seconds, percentile, method="higher")) * 1e3, 3)
