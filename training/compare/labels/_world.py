"""What every job of a comparison starts from: the log, its windows, and the knobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from models.arrays import I64
from models.errors import BadInput
from training.compare._facts import facts_of
from training.compare.labels._judge import Window
from training.config import Config
from training.data import Boundaries, Dataset, Interactions, Split, load, split_by_time
from training.labelcraft import LabelCraftConfig
from training.recommender import RecommenderConfig
from training.train.recipes import any_log


class CompareConfig(Config):
    """Everything that decides the figures of a comparison besides the log."""

    seed: NonNegativeInt = 0
    """The first seed; the others follow it."""
    seeds: PositiveInt = 5
    """How often every method is fitted."""
    cuts: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (5, 10)
    """The k of every `@k` figure, ascending; 2 or more: one duration has no spread."""
    test_days: PositiveInt = 2
    """The last days of the log: what the table is of. Looked at once."""
    stop_days: PositiveInt = 2
    """The days before them: when to stop."""
    meta_days: PositiveInt = 2
    """The days before those: LabelCraft's hold-out. The recommenders are fitted on them, too."""
    min_count: PositiveInt = 2
    """Ids on fewer exposures share the unknown row."""
    resamples: PositiveInt = 2000
    """Of the paired bootstrap."""
    recommender: RecommenderConfig = RecommenderConfig()
    """The recommender that every method hands its labels to."""
    labelcraft: LabelCraftConfig = Field(default_factory=lambda: any_log().labelcraft)
    """How LabelCraft's labels are learned; by default as in the released bundle."""


@dataclass(frozen=True)
class World:
    """A log cut into its windows."""

    dataset: Dataset
    log: Interactions
    at: Boundaries
    split: Split
    known: I64
    """Rows of train and meta: what rules are fitted on, and every recommender."""
    window: Window
    stop: I64 | None
    """Rows of early stopping, `None` where nobody has enough of them."""
    stop_k: int
    """The k that early stopping looks at."""
    notes: tuple[str, ...]
    """What this log does not allow, a sentence each."""

    def facts(self) -> dict[str, Any]:
        """Windows and counts, as JSON."""
        log, cuts = self.log, (*self.window.cuts, *self.window.left_out)
        windows = {
            "train": self.split.train,
            "meta": self.split.meta,
            "early_stop": self.split.early_stop,
            "test": self.split.test,
        }

        def tell(rows: I64) -> dict[str, Any]:
            _, counts = np.unique(log.user[rows], return_counts=True)
            return {
                **{f"users@{k}": int((counts > k).sum()) for k in cuts},
                "explicit_share": float(log.explicit[rows].mean()) if len(rows) else None,
            }

        return facts_of(self.dataset, log, windows, tell)


def open_world(data: Path, config: CompareConfig) -> World:
    """Read a log and cut it.

    Raises:
        BadInput: the log cannot be read, is too short, or nobody of the test window has enough rows.
    """
    dataset = load(data)
    at = dataset.last_days(test_days=config.test_days, stop_days=config.stop_days, meta_days=config.meta_days)
    log = dataset.interactions(dataset.vocabulary(at.early_stop_ms, config.min_count))
    split = split_by_time(log.timestamp_ms, at)
    if not len(split.train):
        raise BadInput("no exposures are left to train on before the meta hold-out; use a longer log.")
    window = Window(log, split.test, config.cuts, split.train)
    notes = [f"k = {k} is left out: no user has more exposures in the test window." for k in window.left_out]
    if not log.explicit[split.test].any():
        notes.append("Nobody gave explicit feedback in the test window: every NEG is 1 and says nothing.")
    _, counts = np.unique(log.user[split.early_stop], return_counts=True)
    stop_k = max((k for k in config.cuts if (counts > k).any()), default=0)
    if not stop_k:
        notes.append(
            f"No user has more than {min(config.cuts)} exposures on the early-stop days, so every "
            f"recommender makes {config.recommender.epochs} epochs."
        )
    elif stop_k < max(config.cuts):
        notes.append(
            f"Recommenders stop by NWTG@{stop_k}: no user has more exposures on the early-stop days."
        )
    return World(
        dataset,
        log,
        at,
        split,
        np.union1d(split.train, split.meta),
        window,
        split.early_stop if stop_k else None,
        stop_k or min(config.cuts),
        tuple(notes),
    )
