"""What every fit of the objectives comparison starts from: the log, its windows, and the knobs."""

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
from training.data import Dataset, Interactions, load, split_by_time
from training.encoders import FeedbackEncoderConfig
from training.rankers import NAMES, ObjectivesConfig, outcomes
from training.train.rankers import TrainerConfig
from training.train.recipes import any_log
from training.watch_time import VRConfig


def _head() -> VRConfig:
    """LDA's loss without its anchors: as good in order (`reports/watch-time-kuairand-pure`), and quicker."""
    lda = any_log().lda
    return VRConfig(loss=lda.loss, delta=lda.delta, rank=lda.rank, rank_error=lda.rank_error)


class CompareObjectivesConfig(Config):
    """Everything that decides the figures of a comparison besides the log."""

    seed: NonNegativeInt = 0
    """The first seed; the others follow it."""
    seeds: PositiveInt = 5
    """How often every method is fitted."""
    ablation_seeds: PositiveInt | None = None
    """How often the ablation rows are, where that is less."""
    test_days: PositiveInt = 2
    """The last days of the log: what the table is of. Looked at once."""
    stop_days: PositiveInt = 1
    """The days before them: when to stop, and the lines of calibration."""
    min_count: PositiveInt = 2
    """Ids on fewer exposures share the unknown row."""
    resamples: PositiveInt = 2000
    """Of the paired bootstrap."""
    encoder: FeedbackEncoderConfig = Field(default_factory=lambda: any_log().encoder)
    """Of every method; by default as in the released bundle."""
    loop: TrainerConfig = TrainerConfig(
        epochs=3, learning_rate=1e-3, weight_decay=1e-2, average=0.98, sequence_length=30
    )
    """Steps, batches and rate of every method."""
    objectives: ObjectivesConfig = ObjectivesConfig()
    """Experts, and GradCraft's knobs."""
    watch_time: VRConfig = Field(default_factory=_head)
    """The watch-time head of every method."""

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
    """Rows of early stopping."""
    test: I64
    """`[R]` judged rows."""

    def facts(self) -> dict[str, Any]:
        """Windows, counts and the share of rows at which each outcome happened, as JSON."""

        def tell(rows: I64) -> dict[str, Any]:
            happened = outcomes(self.log.feedback[rows]).sum(axis=0).astype(int)
            return {"happened": dict(zip(NAMES, happened.tolist(), strict=True))}

        windows = {"train": self.known, "early_stop": self.stop, "test": self.test}
        return facts_of(self.dataset, self.log, windows, tell)


def open_world(data: Path, config: CompareObjectivesConfig) -> World:
    """Read a log and cut it.

    Raises:
        BadInput: the log cannot be read or is too short.
    """
    dataset = load(data)
    at = dataset.last_days(test_days=config.test_days, stop_days=config.stop_days)
    vocabulary = dataset.vocabulary(at.early_stop_ms, config.min_count)
    log = dataset.interactions(vocabulary)
    split = split_by_time(log.timestamp_ms, at)
    known = np.union1d(split.train, split.meta)
    for name, rows in {"training": known, "early-stop": split.early_stop, "test": split.test}.items():
        if not len(rows):
            raise BadInput(
                f"no exposures are left in the {name} window; use a longer log, fewer --test-days or "
                "--stop-days."
            )
    return World(dataset, vocabulary, log, known, split.early_stop, split.test)
