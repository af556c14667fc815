"""Boosted trees on what the encoder computes without parameters: what a team would otherwise pick."""

# Shape suffixes: R rows, F features.

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.errors import BadInput
from training.compare.watch_time._methods import Trees
from training.compare.watch_time._world import World
from training.encoders import FeedbackEncoder, inputs_for, plain_features

_ROUNDS: Final = 2000
_PATIENCE: Final = 50
_LEARNING_RATE: Final = 0.05
_LEAVES: Final = 63
_SMALLEST_LEAF: Final = 100
_BATCH: Final = 4096


class FittedTrees:
    """Boosted trees that answer in seconds.

    Args:
        booster: LightGBM's.
        kind: what it was fitted on.
    """

    def __init__(self, booster: Any, kind: Trees) -> None:
        self.booster, self.kind = booster, kind

    @property
    def leaves(self) -> int:
        """Numbers that a prediction is made of: what comes nearest to parameters."""
        return int(self.booster.num_trees() * _LEAVES)

    def seconds(self, feature_RF: F32) -> F64:
        """`[R]` seconds."""
        raw_R = np.asarray(self.booster.predict(feature_RF, num_threads=1), np.float64)
        return np.expm1(raw_R).clip(min=0) if self.kind == "log_l2" else raw_R.clip(min=0)


def features(encoder: FeedbackEncoder, world: World, rows: I64, length: int, statistics: F32 | None) -> F32:
    """`[R, F]` the encoder's inputs and running statistics of rows, as numbers; see `plain_features`.

    Args:
        encoder: its tables are fitted.
        world: the log.
        rows: which.
        length: most steps of history.
        statistics: what training rows may see of their videos'; `None` reads the frozen tables.
    """
    first = world.log.first_row()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            seen = None if statistics is None else torch.from_numpy(statistics[part])[:, None]
            x = inputs_for(world.log, rows[part], length, first)
            parts.append(plain_features(encoder, x, seen)[:, 0].numpy())
    return np.concatenate(parts)


def fit_trees(
    kind: Trees, train: tuple[F32, F32], stop: tuple[F32, F32], categories: list[int], *, seed: int
) -> FittedTrees:
    """Fit on features and seconds, stop early by the mean absolute error of other rows.

    Args:
        kind: the objective.
        train, stop: features `[R, F]` and seconds `[R]`.
        categories: columns that are no numbers.
        seed: of the draws of rows and columns.

    Raises:
        BadInput: LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError as e:
        raise BadInput("LightGBM is not installed; pip install lightgbm and run it again.") from e
    knobs = {
        "objective": "l1" if kind == "l1" else "l2",
        "metric": "l1" if kind == "l1" else "l2",
        "learning_rate": _LEARNING_RATE,
        "num_leaves": _LEAVES,
        "min_data_in_leaf": _SMALLEST_LEAF,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "seed": seed,
        "num_threads": torch.get_num_threads(),
        "verbose": -1,
    }

    def table(part: tuple[F32, F32], reference: Any = None) -> Any:
        target = np.log1p(part[1]) if kind == "log_l2" else part[1]
        return lightgbm.Dataset(part[0], target, reference=reference, categorical_feature=categories)

    whole = table(train)
    booster = lightgbm.train(
        knobs,
        whole,
        num_boost_round=_ROUNDS,
        valid_sets=[table(stop, whole)],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    return FittedTrees(booster, kind)
