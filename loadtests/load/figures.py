"""A run -> the figures people compare: rates, percentiles, what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from loadtests.load.connections import GONE
from loadtests.load.open_loop import Run

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}

REFUSED: Final = 429
"""A refusal of admission is not an error: it is what a full service should say."""


def figures(run: Run) -> dict[str, Any]:
    """Of one run.

    Returns:
        `requests`, `rate` (due a second) and `goodput` (answered 200 a second, until the last answer came),
        `statuses`, `errors` (the share that is neither 200 nor 429), `ms` (percentiles of the latency of
        what was answered 200, from the moment it was due), `driver_late_ms` (p99 of how late it was sent:
        where that is near the latencies, the driver or its connections were the bottleneck).
    """
    good = run.status == 200
    span = float(run.due_s[-1]) if len(run.due_s) > 1 else run.seconds
    names, counts = np.unique(run.status, return_counts=True)
    statuses = {
        "gone" if s == GONE else str(s): int(n) for s, n in zip(names.tolist(), counts.tolist(), strict=True)
    }
    wrong = ~(good | (run.status == REFUSED))
    return {
        "requests": len(run.status),
        "rate": round(len(run.status) / span, 1),
        "goodput": round(float(good.sum()) / max(span, run.seconds), 1),
        "statuses": statuses,
        "errors": round(float(wrong.mean()), 6),
        "ms": percentiles_ms(run.latency_s[good]),
        "driver_late_ms": round(float(np.percentile(run.late_s, 99)) * 1e3, 3),
    }


def percentiles_ms(seconds: np.typing.NDArray[np.float64]) -> dict[str, float]:
    """Percentiles in milliseconds; of the samples themselves, there is nothing to bin at these counts."""
    if not len(seconds):
        return {}
    return {
        name: round(float(np.percentile(seconds, q, method="higher")) * 1e3, 3)
        for name, q in PERCENTILES.items()
    }


def within(found: Mapping[str, Any], *, p99_ms: float, errors: float) -> bool:
    """Whether a run kept to an objective: its p99, its errors, and that nothing was refused."""
    refused = found["statuses"].get(str(REFUSED), 0)
    kept = found["errors"] <= errors and refused <= errors * found["requests"]
    return bool(kept and found["ms"] and found["ms"]["p99"] <= p99_ms)
