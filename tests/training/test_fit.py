"""What a recipe refuses before it is fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.errors import BadInput
from models.metrics import auc
from models.signals import Signals
from tests.training._builders import liked_and_hated
from training.config import override
from training.data import Dataset, SyntheticConfig, read_likes_hates, simulate_log, split_by_time
from training.labelcraft.closed_form import ClosedFormConfig
from training.labels import labels_of
from training.rankers import NAMES
from training.train.fit import evaluation_boundaries, fit_for_evaluation
from training.train.labels import learn
from training.train.objectives import choose_objectives, describe_left_out
from training.train.recipes import any_log, smoke, smoke_objectives
from training.train.run_config import new_networks


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


QUICK = ClosedFormConfig(window_days=1, watch_knots=5, duration_knots=3, redraws=1)


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


def test_labels_learn_from_likes_and_hates_and_the_held_out_half_is_in_the_record(tmp_path: Path) -> None:
    liked_and_hated(rows=2000, users=40).write_parquet(tmp_path / "rows.parquet")
    rows, dataset = read_likes_hates(tmp_path), of_days(4)
    days = any_log()
    found = {}
    for weight in (0.0, 10.0):
        quick = QUICK.model_copy(update={"steps": 15, "likes_hates_weight": weight})
        config = days.model_copy(update={"closed_form": quick})
        log = dataset.interactions(dataset.vocabulary())
        split = split_by_time(log.timestamp_ms, evaluation_boundaries(dataset, config))
        known = np.union1d(split.train, split.meta)
        learned = learn(log, known, split, config, 0.0, lambda stage, share: None, rows)
        record, held_out = learned.record.likes_above_hates, rows.halves()[1]
        assert record is not None
        assert record.auc == auc(held_out.liked, labels_of(learned.label_maker, held_out.log))
        found[weight] = record
    assert found[10.0].auc > found[0.0].auc
    assert found[0.0].watched_share_auc == found[10.0].watched_share_auc > 0.7


def test_the_learner_of_one_step_refuses_likes_and_hates(tmp_path: Path) -> None:
    liked_and_hated().write_parquet(tmp_path / "rows.parquet")
    config = any_log().model_copy(update={"learner": "one_step"})
    with pytest.raises(BadInput, match="in closed form alone"):
        fit_for_evaluation(of_days(4), config, until_labels_are_learned, read_likes_hates(tmp_path))


def test_a_log_that_is_too_short_for_windows_is_told_of_shorter_ones() -> None:
    with pytest.raises(BadInput, match=r"learned from 3 days: a window of 2 days.*`window_days=1`"):
        fit_for_evaluation(
            of_days(4),
            any_log().model_copy(update={"closed_form": ClosedFormConfig()}),
            until_labels_are_learned,
        )


def test_any_log_learns_every_objective_that_the_log_allows_and_counts_the_others() -> None:
    log = of_days(4)
    config, test_ms = any_log(), evaluation_boundaries(log, any_log()).test_ms
    hated = pl.int_range(pl.len()) < 7
    rare = Dataset(
        replace(log.tables, interactions=log.log.with_columns(hate=hated, follow=pl.lit(value=False)))
    )
    chosen, left_out = choose_objectives(rare, config, test_ms)
    assert left_out == {"follow": 0, "hate": 7}
    assert chosen.objectives is not None
    assert chosen.objectives.names == tuple(name for name in NAMES if name not in left_out)
    _, ranker = new_networks(chosen, rare.vocabulary(), (), ())
    assert ranker.objectives == ("watch_time", "interest", *chosen.objectives.names)
    assert describe_left_out(left_out, 50).endswith("fewer than 50 exposures: follow (0), hate (7)")


def test_objectives_that_are_named_are_not_chosen() -> None:
    config = smoke_objectives()
    assert choose_objectives(of_days(4), config, 0) == (config, {})
    with pytest.raises(BadInput, match="no outcome 'likes'; there are effective_view"):
        override(any_log(), {"objectives": {"names": ["likes"]}}, owner="the recipe")


def test_signals_are_objectives_where_the_log_allows() -> None:
    signals = Signals(positive=("favorite",), negative=("report",))
    tables = of_days(4).tables
    log = tables.interactions.with_columns(favorite=pl.col("like"), report=pl.lit(False))
    info = tables.info.model_copy(update={"signals": signals})
    declared = Dataset(replace(tables, interactions=log, info=info))
    config, left_out = choose_objectives(declared, smoke_objectives(), tables.info.last_timestamp_ms)
    assert config.objectives is not None
    assert config.objectives.signals == ("favorite",)
    assert left_out == {"report": 0}
    _, ranker = new_networks(config, declared.vocabulary(), (), (), signals)
    assert ranker.objectives[-1] == "favorite"
