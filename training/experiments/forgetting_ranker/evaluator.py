"""A sample of a log, and figures of a ranker on it after rows were forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import F32, I64
from models.ledger import Entry
from models.metrics import auc, mae_s, xauc
from training.data import Dataset, Forgotten, load, without
from training.evaluation.bootstrap import Measure
from training.evaluation.predict import Outputs, run_torch
from training.experiments.data import ExperimentData
from training.experiments.forgetting_ranker.config import RankerForgettingConfig
from training.experiments.forgetting_ranker.removals import Removal
from training.rankers import Ranker, outcomes, outcomes_with
from training.train.fit import Windows, cut_windows, evaluation_boundaries
from training.train.run_config import RunConfig
from training.train.verification import membership_auc, order_of_rows, taken_out


class SampledLog:
    """The log of some users.

    Args:
        dataset: the log.
        config: windows.
    """

    def __init__(self, dataset: Dataset, config: RankerForgettingConfig) -> None:
        run = config.recipe(config.seed)
        windows = cut_windows(dataset, run, evaluation_boundaries(dataset, run))
        split = windows.split
        self.data = ExperimentData(
            dataset, windows.vocabulary, windows.log, split.train, split.meta, split.early_stop, split.test
        )

    @property
    def users(self) -> I64:
        """`[R]` of the test rows."""
        users: I64 = self.data.log.user[self.data.test]
        return users

    @property
    def measures(self) -> Mapping[str, Measure]:
        """None: what is reported is not a mean over users."""
        return {}

    def describe_window(self, rows: I64) -> dict[str, Any]:
        """Return nothing besides days, rows and users."""
        return {}


def load_sample(folder: Path, config: RankerForgettingConfig) -> SampledLog:
    """Read a log, and keep some of its users."""
    dataset = load(folder)
    users = dataset.log["user_id"].unique().sort()
    others = np.random.default_rng(0).permutation(len(users))[config.sample :]
    left_out = tuple(Entry(user_id=user, forgotten_at_ms=0) for user in users[others])
    return SampledLog(without(dataset, Forgotten(left_out, None)), config)


class Predicted(NamedTuple):
    """What a ranker predicts of the remaining rows, in an order that no vocabulary changes."""

    stop: Outputs
    stop_s: F32
    """Seconds watched."""
    test: Outputs
    test_s: F32
    happened: F32
    """`[R, T]` outcomes of the test rows."""
    names: tuple[str, ...]
    """Of the outcomes."""

    @classmethod
    def by(cls, ranker: Ranker, windows: Windows, remaining: Dataset, run: RunConfig) -> Predicted:
        """Predict by a ranker with the vocabulary of its windows."""
        log = remaining.interactions(windows.vocabulary)
        bounds, length = windows.boundaries, run.loop.sequence_length
        stop = log.rows_between(bounds.early_stop_ms, bounds.test_ms)
        test = log.rows_between(bounds.test_ms, remaining.info.last_timestamp_ms + 1)
        stop, test = (rows[order_of_rows(log, rows)] for rows in (stop, test))
        return cls(
            run_torch(ranker, log, stop, length),
            log.watch_time_s[stop],
            run_torch(ranker, log, test, length),
            log.watch_time_s[test],
            outcomes(log.feedback[test], log.signals),
            tuple(outcome.name for outcome in outcomes_with(log.signals)),
        )

    def checked(self, former: Predicted) -> dict[str, float | None]:
        """Return the figures of the early-stop rows by which `forget` refuses a result."""
        return {
            f"{name}_{when}": measure(one.stop.watch_time_s, one.stop_s)
            for name, measure in (("mae_s", mae_s), ("xauc", xauc))
            for when, one in (("before", former), ("after", self))
        }

    def figures(self) -> dict[str, float | None]:
        """Return MAE and XAUC of the test rows, and the mean AUC over the objectives."""
        found = [
            auc(self.happened[:, t], self.test.objectives[name])
            for t, name in enumerate(self.names)
            if name in self.test.objectives
        ]
        known = [value for value in found if value is not None]
        return {
            "mae_s": mae_s(self.test.watch_time_s, self.test_s),
            "xauc": xauc(self.test.watch_time_s, self.test_s),
            "auc": float(np.mean(known)) if known else None,
        }


def removal_membership_auc(
    ranker: Ranker, windows: Windows, complete: Dataset, removal: Removal, run: RunConfig
) -> float | None:
    """Return how well the loss distinguishes forgotten train rows from their control; .5 is not at all.

    Args:
        ranker: with the vocabulary of its windows.
        windows: what it was fitted on.
        complete: the log with both.
        removal: both.
        run: the recipe.
    """
    log = complete.interactions(windows.vocabulary)
    everything = windows._replace(dataset=complete, log=log)
    until_ms = windows.boundaries.early_stop_ms

    def rows(named: Forgotten) -> I64:
        gone: npt.NDArray[np.bool_] = taken_out(everything, without(complete, named))
        return np.flatnonzero(gone & (log.timestamp_ms < until_ms))

    forgotten, control = rows(removal.forgotten), rows(removal.control)
    return membership_auc(ranker, log, forgotten, control, run.loop.sequence_length)
