"""What the experiment forgets."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.experiments.forgetting.config import ForgettingConfig
from training.experiments.forgetting.rows import Rows

FLIPPED, ONE_USER, USERS = "flipped", "one_user", "users"


class Removals(NamedTuple):
    """Train rows with wrong labels among them, and sets of them to forget."""

    train: Rows
    """What models are fitted on: rows of `FLIPPED` have the wrong label."""
    removed: dict[str, Tensor]
    """By name, which rows go, bool `[N]`."""
    control: Rows
    """As many rows as are flipped, drawn alike and with the wrong label too, that no model is fitted on."""


def draw_removals(rows: Rows, config: ForgettingConfig, *, seed: int) -> Removals:
    """Draw rows to flip, as many control rows to leave out, one user, and a share of the users."""
    random = torch.Generator().manual_seed(seed)
    size = len(rows.user)
    count = max(1, round(config.flipped * size))
    order = torch.randperm(size, generator=random)
    control, flipped = torch.zeros(2, size, dtype=torch.bool)
    control[order[:count]], flipped[order[count : 2 * count]] = True, True
    wrong = rows._replace(sign=torch.where(flipped, -rows.sign, rows.sign))
    train = wrong.take(~control)
    users = torch.unique(train.user)
    users = users[torch.randperm(len(users), generator=random)]
    share = max(1, round(config.users * len(users)))
    removed = {
        FLIPPED: flipped[~control],
        ONE_USER: train.user == users[0],
        USERS: torch.isin(train.user, users[:share]),
    }
    return Removals(train, removed, rows.take(control).flipped())
