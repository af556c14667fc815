"""What a recipe refuses before it is fitted."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from models.errors import BadInput
from training.data import Dataset, SyntheticConfig, simulate_log
from training.labelcraft.closed_form import ClosedFormConfig
from training.train.fit import evaluation_boundaries, fit_for_evaluation
from training.train.recipes import any_log, smoke


def test_a_log_without_early_stop_rows_of_the_main_tab_is_refused_before_training() -> None:
    log = simulate_log(SyntheticConfig(users=20, videos=30, exposures=300), seed=0).dataset()
    days = evaluation_boundaries(log, smoke())
    stops = pl.col("timestamp_ms").is_between(days.early_stop_ms, days.test_ms, closed="left")
    elsewhere = log.log.with_columns(tab=pl.when(stops).then(pl.lit("2")).otherwise("tab"))
    with pytest.raises(BadInput, match="no exposures of the main tab '1' are in the early-stop days"):
        fit_for_evaluation(
            Dataset(replace(log.tables, interactions=elsewhere)),
            smoke(),
            lambda stage, share: pytest.fail(stage),
        )


class Learned(Exception):
    """The labels are learned; what follows is not of interest."""


def until_labels_are_learned(stage: str, share: float) -> None:
    if stage == "anchors":
        raise Learned


def of_days(days: int) -> Dataset:
    return simulate_log(
        SyntheticConfig(users=80, videos=150, exposures=1200 * days, days=days), seed=0
    ).dataset()


def test_four_days_are_enough_for_any_log() -> None:
    recipe = any_log()
    quick = recipe.closed_form.model_copy(update={"steps": 2, "redraws": 1, "watch_knots": 5})
    with pytest.raises(Learned):
        fit_for_evaluation(
            of_days(4), recipe.model_copy(update={"closed_form": quick}), until_labels_are_learned
        )


def test_a_log_that_is_too_short_for_windows_is_told_of_shorter_ones() -> None:
    with pytest.raises(BadInput, match=r"learned from 3 days: a window of 2 days.*`window_days=1`"):
        fit_for_evaluation(
            of_days(4),
            any_log().model_copy(update={"closed_form": ClosedFormConfig()}),
            until_labels_are_learned,
        )
