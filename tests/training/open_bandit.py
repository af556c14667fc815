"""The sample of the Open Bandit Dataset, for tests that need a real pair of policies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
import pytest

from models.arrays import F64, I64

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "open-bandit"
"""Beside the repository; see the README there."""

_Test = TypeVar("_Test", bound=Callable[..., Any] | type)


class Log(NamedTuple):
    """Rows of one policy on one campaign, in the order of time."""

    item: I64
    position: I64
    """From 0."""
    click: F64
    propensity: F64


def read(policy: str, campaign: str) -> Log:
    """Read the rows of a policy, `random` or `bts`."""
    rows = pl.read_parquet(FOLDER / f"{policy}_{campaign}.parquet")
    return Log(
        rows["item_id"].to_numpy(),
        rows["position"].to_numpy() - 1,
        rows["click"].to_numpy().astype(np.float64),
        rows["propensity_score"].to_numpy(),
    )


def needs_open_bandit(test: _Test) -> _Test:
    """Mark a test as `real_data`, and skip it with a reason where the logs are not."""
    missing = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no logs at {FOLDER}")
    marked: _Test = pytest.mark.real_data(missing(test))
    return marked
