"""What a recipe refuses before it is fitted."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from models.errors import BadInput
from training.data import Dataset, SyntheticConfig, simulate_log
from training.train.fit import evaluation_boundaries, fit_for_evaluation
from training.train.recipes import smoke


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
