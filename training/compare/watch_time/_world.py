"""What every fit of the watch-time comparison starts from: the log, its windows, and the knobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from models.arrays import I64
from models.errors import BadInput
from models.vocabulary import Vocabulary
from training.compare._facts import facts_of
from training.config import Config
from training.data import Dataset, Interactions, Protocol, cut, load, split_by_time
from training.encoders import FeedbackEncoderConfig
from training.lda import LDAConfig
from training.train.fit import rows_in_main_tab
from training.train.rankers import TrainerConfig
from training.train.recipes import any_log


class WatchTimeConfig(Config):
    """Everything that decides the figures of a comparison besides the log."""

    seed: NonNegativeInt = 0
    """The first seed; the others follow it."""
    seeds: PositiveInt = 5
    """How often every method is fitted."""
    ablation_seeds: PositiveInt | None = None
    """How often the ablation rows are, where that is less: they explain the table and decide nothing."""
    test_days: PositiveInt = 2
    """The last days of the log: what the table is of. Looked at once."""
    stop_days: PositiveInt = 1
    """The days before them: when to stop."""
    min_count: PositiveInt = 2
    """Ids on fewer exposures share the unknown row."""
    all_tabs: bool = False
    """Judge every row; otherwise those of the data set's main tab, where it names one."""
    protocol: Protocol | None = None
    """A published way of cutting a public log, instead of by days and tab; see `training.data`."""
    resamples: PositiveInt = 2000
    """Of the paired bootstrap."""
    encoder: FeedbackEncoderConfig = Field(default_factory=lambda: any_log().encoder)
    """Of every head; by default as in the released bundle."""
    loop: TrainerConfig = Field(default_factory=lambda: any_log().loop.model_copy(update={"interest": 0.0}))
    """Steps, batches and rate of every head."""
    lda: LDAConfig = Field(default_factory=lambda: any_log().lda)
    """By default as in the released bundle."""

    def seeds_of(self, *, ablation: bool) -> range:
        """The seeds that a method, or an ablation row, is fitted with."""
        fewer = self.ablation_seeds if ablation and self.ablation_seeds is not None else self.seeds
        return range(self.seed, self.seed + min(self.seeds, fewer))


@dataclass(frozen=True)
class World:
    """A log cut into its windows."""

    dataset: Dataset
    vocabulary: Vocabulary
    log: Interactions
    known: I64
    """Rows that are learned from: everything before the early-stop days."""
    stop: I64
    """Rows of early stopping, of the judged tab."""
    test: I64
    """`[R]` judged rows."""

    def facts(self) -> dict[str, Any]:
        """Windows and counts, as JSON."""
        watched = self.log.watch_time_s
        return facts_of(
            self.dataset,
            self.log,
            {"train": self.known, "early_stop": self.stop, "test": self.test},
            lambda rows: {
                "mean_watch_time_s": float(watched[rows].mean()),
                "median_watch_time_s": float(np.median(watched[rows])),
            },
        )


def open_world(data: Path, config: WatchTimeConfig) -> World:
    """Read a log and cut it.

    Raises:
        BadInput: the log cannot be read or is too short, a window has no row of the judged tab, or the
            protocol is another data set's.
    """
    dataset = load(data)
    if config.protocol is not None:
        return _under(config.protocol, dataset, config.min_count)
    info = dataset.info
    at = dataset.last_days(test_days=config.test_days, stop_days=config.stop_days)
    vocabulary = dataset.vocabulary(at.early_stop_ms, config.min_count)
    log = dataset.interactions(vocabulary)
    split = split_by_time(log.timestamp_ms, at)
    known = np.union1d(split.train, split.meta)
    judged = {
        "early-stop": split.early_stop,
        "test": split.test,
    }
    if not config.all_tabs:
        judged = {name: rows_in_main_tab(dataset, log, rows, vocabulary) for name, rows in judged.items()}
    for name, rows in {"training": known, **judged}.items():
        if not len(rows):
            raise BadInput(
                f"no exposures are left in the {name} window"
                + ("" if config.all_tabs else f" (tab {info.main_tab})")
                + "; use a longer log, fewer --test-days and --stop-days, or --all-tabs."
            )
    return World(dataset, vocabulary, log, known, judged["early-stop"], judged["test"])


def _under(protocol: Protocol, dataset: Dataset, min_count: int) -> World:
    """Rows as a protocol deals them out. Where it cuts by time, ids first met later share the unknown row."""
    vocabulary = dataset.vocabulary(None, min_count)
    parts = cut(protocol, dataset, vocabulary, dataset.interactions(vocabulary))
    time = parts.log.timestamp_ms
    later = int(min(time[parts.stop].min(), time[parts.test].min()))
    if time[parts.train].max() < later:
        vocabulary = dataset.vocabulary(later, min_count)
        parts = cut(protocol, dataset, vocabulary, dataset.interactions(vocabulary))
    return World(dataset, vocabulary, parts.log, parts.train, parts.stop, parts.test)
