"""Long views as rows of users and videos, both of them nodes of one embedding table."""

# Shape suffixes: N rows, V nodes.

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from models.errors import BadInput
from models.metrics import long_view
from training.experiments.data import ExperimentData, load_experiment_data
from training.experiments.forgetting.config import ForgettingConfig

_LEAST_USERS = 10


class Rows(NamedTuple):
    """Exposures of users to videos."""

    user: Tensor
    """`[N]` node of the user."""
    video: Tensor
    """`[N]` node of the video; nodes of users come first."""
    sign: Tensor
    """`[N]` 1 for a long view, -1 for none."""

    def take(self, rows: Tensor) -> Rows:
        """Return some rows, by index or by a mask."""
        return Rows(self.user[rows], self.video[rows], self.sign[rows])

    def renamed(self, index_V: Tensor) -> Rows:
        """Return the same rows with nodes by another index."""
        return self._replace(user=index_V[self.user], video=index_V[self.video])

    def flipped(self) -> Rows:
        """Return the same rows with the other label."""
        return self._replace(sign=-self.sign)

    @property
    def edges(self) -> Tensor:
        """`[N, 2]` user and video."""
        return torch.stack([self.user, self.video], dim=1)

    def touching(self, node_V: Tensor) -> Tensor:
        """Return which rows have their user or their video among the nodes, `[N]`."""
        return node_V[self.user] | node_V[self.video]


def node_mask(index: Tensor, nodes: int) -> Tensor:
    """Return nodes as a mask, bool `[V]`."""
    return torch.zeros(nodes, dtype=torch.bool).index_fill(0, index, True)


class LongViews(NamedTuple):
    """The rows of an experiment."""

    data: ExperimentData
    nodes: int
    """V"""
    train: Rows
    test: Rows
    """Of users and videos that the train rows have."""


def load_long_views(folder: Path, config: ForgettingConfig) -> LongViews:
    """Read a log, and reduce its train rows to users and videos with `core` of them.

    Raises:
        BadInput: the log cannot be read or is too short, or too few rows are left.
    """
    data = load_experiment_data(
        folder, test_days=config.test_days, stop_days=config.stop_days, min_count=config.min_count
    )
    log = data.log
    users = len(log.user_ids)
    watched = torch.from_numpy(long_view(log.watch_time_s, log.duration_s) > 0)
    rows = Rows(
        torch.from_numpy(log.user),
        torch.from_numpy(log.ids[:, 0]) + users,
        torch.where(watched, 1.0, -1.0),
    )
    nodes = int(rows.video.max()) + 1
    train = rows.take(torch.from_numpy(data.fitted))
    while len(train.user):
        count_V = torch.bincount(train.edges.reshape(-1), minlength=nodes)
        frequent = (count_V[train.user] >= config.core) & (count_V[train.video] >= config.core)
        if frequent.all():
            break
        train = train.take(frequent)
    known_V = node_mask(train.edges.reshape(-1), nodes)
    test = rows.take(torch.from_numpy(data.test))
    test = test.take(known_V[test.user] & known_V[test.video])
    left = len(torch.unique(train.user))
    if left < _LEAST_USERS or len(torch.unique(test.sign)) < 2:
        raise BadInput(
            f"{len(train.user):,} rows of {left:,} users are left of users and videos with {config.core} "
            "rows each: too few to forget some. Use a longer log, or a smaller `core`."
        )
    return LongViews(data, nodes, train, test)
