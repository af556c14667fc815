"""What recipes and label makers ask of a log, checked without fitting them.

Recipes and label makers import torch, which `check` does not wait for, so their needs are written down here;
tests compare them with what `fit` refuses.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from models.arrays import I64
from models.errors import BadInput
from models.schema import EXPLICIT
from training.data import Dataset, day_numbers, split_by_time

SLATE: Final = 5
"""Labels are learned from users with more exposures than this in a window of days."""
LEAST_GROUP: Final = 50
"""Rows of a group of users or videos that label makers compare within."""
LEAST_USERS: Final = 2
"""Users of a group: a category of one user counts as unknown."""


class Needs(NamedTuple):
    """Days that a recipe asks for."""

    test_days: int
    stop_days: int
    meta_days: int
    window_days: int
    """Of the windows that labels are learned on."""
    stops_on_main_tab: bool
    """Without objectives the epoch is chosen by watch time, on the main tab."""


RECIPES: Final = {
    "any_log": Needs(1, 1, 1, 1, False),
    "kuairand_pure": Needs(2, 1, 2, 2, True),
    "kuairand_objectives": Needs(2, 1, 2, 2, False),
    "smoke": Needs(1, 1, 2, 2, True),
    "smoke_objectives": Needs(1, 1, 2, 2, False),
}


class RecipeCheck(BaseModel):
    """Whether a recipe can be fitted, and the rows of its windows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: dict[str, int] = {}
    """Of train, meta, early stop and test; empty if the log is too short."""
    refused: str | None = None


def check_recipes(dataset: Dataset) -> tuple[RecipeCheck, ...]:
    """Return for every recipe what `fit` will do with the log."""
    return tuple(_check_recipe(name, needs, dataset) for name, needs in RECIPES.items())


def _check_recipe(name: str, needs: Needs, dataset: Dataset) -> RecipeCheck:
    try:
        boundaries = dataset.last_days(
            test_days=needs.test_days, stop_days=needs.stop_days, meta_days=needs.meta_days
        )
    except BadInput as e:
        return RecipeCheck(name=name, refused=str(e))
    log, main = dataset.log, dataset.info.main_tab
    split = split_by_time(log["timestamp_ms"].to_numpy(), boundaries)
    rows = {window: len(getattr(split, window)) for window in ("train", "meta", "early_stop", "test")}
    in_main = (
        np.ones(len(log), bool) if main is None else (log["tab"] == main).fill_null(value=False).to_numpy()
    )
    before = np.flatnonzero(in_main & (log["timestamp_ms"].to_numpy() < boundaries.test_ms))
    stops = split.early_stop[in_main[split.early_stop]] if needs.stops_on_main_tab else split.early_stop
    if not len(split.train):
        refused: str | None = "no exposures are left to train on before the meta hold-out"
    elif not len(stops):
        refused = "no exposures of the main tab are in the early-stop days, to choose an epoch by"
    else:
        refused = _labels_refused(dataset, before, needs.window_days)
    return RecipeCheck(name=name, rows=rows, refused=refused)


def _labels_refused(dataset: Dataset, rows: I64, window_days: int) -> str | None:
    """Return why labels cannot be learned in closed form from rows of the main tab, if so."""
    log = dataset.log[rows]
    if log.is_empty():
        return "no exposures of the main tab are before the test days, to learn labels from"
    day = day_numbers(log["timestamp_ms"].to_numpy(), dataset.info.utc_offset_hours)
    windows = (int(day.max()) + 1 - int(day.min())) // window_days - 1
    if windows < 1:
        return f"labels are learned on windows of {window_days} days, and need as many before"
    window = (int(day.max()) - day) // window_days  # 0 is the last
    counts = log.select("user_id", window=pl.Series(window)).filter(pl.col("window") < windows)
    if not (counts.group_by("user_id", "window").len()["len"] > SLATE).any():
        return f"no user has more than {SLATE} exposures in any {window_days} days, so no slate can be chosen"
    if _is_hardly_watched(log):
        return "nine exposures in ten were not watched at all"
    low, high = np.quantile(log["duration_s"].to_numpy(), [0.001, 0.999])
    return None if high > low else "all durations are equal"


def _is_hardly_watched(log: pl.DataFrame) -> bool:
    """Watch times are scaled by their 90 % quantile."""
    return not np.quantile(log["watch_time_s"].to_numpy(), 0.9) > 0


def refused_label_makers(dataset: Dataset) -> dict[str, str]:
    """Return the hand-made label makers that the log does not allow, and why."""
    log, refused = dataset.log, {}
    if not log.select(pl.any_horizontal(EXPLICIT).any()).item():
        refused["ef"] = "no row has explicit feedback"
    if _is_hardly_watched(log):
        refused["wt"] = "nine exposures in ten were not watched at all"
    views = [f"dml_{view}{group}" for view in ("ev", "lv") for group in ("", "_d", "_u", "_v")]
    if log["watch_time_s"].n_unique() < 2:
        return refused | dict.fromkeys((*views, "dml_wpr", "dml_wpr_d", "rad"), "all watch times are equal")
    if log["duration_s"].n_unique() < 2:
        refused |= dict.fromkeys(("dml_wpr_d", "dml_ev_d", "dml_lv_d"), "all durations are equal")
    if not _largest(log["tag"]) >= LEAST_GROUP:
        refused |= dict.fromkeys(("dml_ev_v", "dml_lv_v"), f"no tag has {LEAST_GROUP} rows")
    if not _largest_user_group(dataset) >= LEAST_GROUP:
        refused |= dict.fromkeys(("dml_ev_u", "dml_lv_u"), f"no group of users has {LEAST_GROUP} rows")
    return refused


def _largest(groups: pl.Series) -> int:
    return int(groups.drop_nulls().value_counts(name="rows")["rows"].to_numpy().max(initial=0))


def _largest_user_group(dataset: Dataset) -> int:
    if not dataset.profile_categories:
        return 0
    name = dataset.profile_categories[0]
    groups = dataset.tables.users.select("user_id", group=pl.col(name)).drop_nulls()
    rows = dataset.log.select("user_id").join(groups, on="user_id").group_by("group")
    counts = rows.agg(rows=pl.len(), users=pl.col("user_id").n_unique())
    return int(counts.filter(pl.col("users") >= LEAST_USERS)["rows"].to_numpy().max(initial=0))
