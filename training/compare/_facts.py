"""What a report says of its log: where it comes from, and what lies in each of its windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from models.arrays import I64
from training.data import Dataset, Interactions, ms_to_day


def facts_of(
    dataset: Dataset,
    log: Interactions,
    windows: Mapping[str, I64],
    tell: Callable[[I64], Mapping[str, Any]],
) -> dict[str, Any]:
    """Source and licence, and of each window its days, rows and users, as JSON.

    Args:
        dataset: where `log` comes from.
        log: its exposures.
        windows: rows by name; a window may be empty.
        tell: rows -> what this report tells of a window besides.
    """
    info = dataset.info
    found: dict[str, Any] = {
        "dataset": info.dataset,
        "source": info.source,
        "licence": info.licence,
        "rows": len(log),
        "windows": {},
    }
    for name, rows in windows.items():
        at = log.timestamp_ms[rows]
        ends = (at.min(), at.max()) if len(rows) else ()
        found["windows"][name] = {
            "days": [ms_to_day(int(t), info.utc_offset_hours) for t in ends],
            "rows": len(rows),
            "users": len(np.unique(log.user[rows])),
            **tell(rows),
        }
    return found
