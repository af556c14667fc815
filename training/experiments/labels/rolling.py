"""The rolling origin: days cut into windows, each with the slates of its users and all rows before it."""

# Shape suffixes: N rows of the log, R rows of a window's slates, U users of a window, C candidates (padded).

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.arrays import F32, I64
from models.errors import BadInput
from training.data import Dataset, Interactions, day_numbers, load
from training.encoders import slates
from training.experiments.labels.config import LabelsConfig
from training.labelcraft import Candidates, candidates_of
from training.labelcraft.closed_form import first_days, lagged_features
from training.labels import Scale
from training.train.fit import rows_in_main_tab


@dataclass(frozen=True)
class Window:
    """Some days of the log."""

    known: I64
    """Rows of all days before: what labels and recommenders may be fitted on."""
    rows: I64
    """`[R]` rows of the users who have enough candidates, ascending."""
    index: I64
    """`[U, C]` of each candidate among `rows`."""
    users: I64
    """`[U]`"""
    candidates: Candidates


@dataclass(frozen=True)
class RollingOrigin:
    """A log and its windows, oldest first."""

    dataset: Dataset
    log: Interactions
    """Of the main tab, where the dataset has one, unless every tab was asked for."""
    day: I64
    """`[N]`"""
    features: F32
    """`[N, F]` see `lagged_features`."""
    windows: tuple[Window, ...]

    @property
    def evaluated(self) -> tuple[Window, ...]:
        """All but the first window, which labels are only learned on."""
        return self.windows[1:]


def rolling_origin(folder: Path, config: LabelsConfig, *, all_tabs: bool = False) -> RollingOrigin:
    """Read a log and cut it.

    Args:
        folder: that `prepare` wrote, or one's own log in that layout.
        config: `windows`, `window_days` and `k` are read.
        all_tabs: not the main tab alone, where the dataset has one.

    Raises:
        BadInput: the log cannot be read or is too short, or a window has no user to choose a slate for.
    """
    dataset = load(folder)
    vocabulary = dataset.vocabulary(None, 1)
    log = dataset.interactions(vocabulary)
    if not all_tabs:
        log = log.take(rows_in_main_tab(dataset, log, np.arange(len(log)), vocabulary))
    day = day_numbers(log.timestamp_ms, dataset.info.utc_offset_hours)
    starts = first_days(day, config.window_days)[-config.windows :]
    if len(starts) < 2:
        raise BadInput(
            f"{len(np.unique(day))} days are too few: labels are learned on a window of {config.window_days} "
            "days, which needs as many before it, and evaluated on the next; take a longer log or shorter "
            "windows."
        )
    early = log.take(np.flatnonzero(day < starts[0]))
    scales = Scale(name="watch time").fit(early.watch_time_s), Scale(name="duration").fit(early.duration_s)
    windows = []
    for start in starts:
        inside = np.flatnonzero((day >= start) & (day < start + config.window_days))
        users = slates(log, inside, more_than=config.k)
        if not len(users.rows):
            raise BadInput(
                f"no user has more than k = {config.k} exposures in a window of {config.window_days} days, "
                "so there is no slate to choose; lower --k or take wider --window-days."
            )
        rows = np.unique(users.rows[users.mask.numpy()])
        windows.append(
            Window(
                known=np.flatnonzero(day < start),
                rows=rows,
                index=np.searchsorted(rows, users.rows).clip(max=len(rows) - 1),
                users=log.user[users.rows[:, 0]],
                candidates=candidates_of(log, users, *scales, day),
            )
        )
    features = lagged_features(log, day, starts[0] + config.window_days)
    return RollingOrigin(dataset, log, day, features, tuple(windows))
