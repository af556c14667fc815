"""What the experiment forgets, and a control for each that no ranker is fitted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from models.arrays import I64
from models.ledger import Entry
from training.data import Dataset, Forgotten, without
from training.experiments.forgetting_ranker.config import RankerForgettingConfig
from training.train.fit import evaluation_boundaries

WRONG, USERS, VIDEOS = "wrong", "users", "videos"
_KEPT: Final = ("user_id", "video_id", "timestamp_ms", "duration_s", "tab", "author_id", "tag")


class Removal(NamedTuple):
    """One set of rows to forget."""

    forgotten: Forgotten
    control: Forgotten
    """Drawn alike, and as large."""


class Removals(NamedTuple):
    """A log in which some train rows have wrong feedback, and what is forgotten of it."""

    complete: Dataset
    """With the controls."""
    fitted: Dataset
    """Without them."""
    each: dict[str, Removal]


def draw_removals(dataset: Dataset, config: RankerForgettingConfig, *, seed: int) -> Removals:
    """Exchange the feedback of some train rows, and draw rows, users and videos to forget.

    Args:
        dataset: the log.
        config: shares.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    log = dataset.log
    until_ms = evaluation_boundaries(dataset, config.recipe(seed)).early_stop_ms
    train = np.flatnonzero(log["timestamp_ms"].to_numpy() < until_ms)
    rows = random.permutation(train)[: 2 * max(1, round(config.wrong * len(train)))]
    source = np.arange(len(log))
    source[rows] = random.permutation(rows)
    feedback = [name for name in log.columns if name not in _KEPT]
    wrong = log.with_columns(log.select(feedback)[source])
    complete = Dataset(replace(dataset.tables, interactions=wrong))
    each = {WRONG: _halves(log[rows].select("user_id", "video_id", "timestamp_ms"))}
    for name, column in ((USERS, "user_id"), (VIDEOS, "video_id")):
        ids = log[train][column].unique().sort()
        picked: I64 = random.permutation(len(ids))[: 2 * max(1, round(config.share * len(ids)))]
        each[name] = _halves(ids[picked].to_frame())
    controls = Forgotten(tuple(entry for one in each.values() for entry in one.control.entries), None)
    return Removals(complete, without(complete, controls), each)


def _halves(named: pl.DataFrame) -> Removal:
    entries = [Entry(**ids, forgotten_at_ms=0) for ids in named.to_dicts()]
    middle = len(entries) // 2
    return Removal(*(Forgotten(tuple(half), None) for half in (entries[:middle], entries[middle:])))
