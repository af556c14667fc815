"""Boosted trees on what the encoder computes without parameters: the baseline a team would start with."""

# Shape suffixes: R rows, F features.

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from models.arrays import F32, F64, I64
from models.errors import BadInput
from training.config import Config
from training.data import Interactions
from training.encoders import FeedbackEncoder, HistoryAt, inputs_for, plain_features

Target = Literal["l1", "l2", "rank"]
"""log(1 + seconds) with absolute error, which asks for the median; seconds with squared error, which asks for
the mean; or the rank among the training rows with squared error, mapped back by their quantiles."""
Share = Annotated[float, Field(gt=0, le=1)]

_PATIENCE: Final = 50
_BATCH: Final = 4096


class TreesConfig(Config):
    """Hyperparameters of boosted trees."""

    rounds: PositiveInt = 2000
    """At most; early stopping ends them."""
    learning_rate: PositiveFloat = 0.05
    leaves: Annotated[int, Field(ge=2)] = 63
    rows_per_leaf: PositiveInt = 100
    """At least."""
    column_share: Share = 0.7
    """Of the columns, drawn for each tree."""
    row_share: Share = 0.8
    """Of the rows, drawn for each tree."""
    l2: NonNegativeFloat = 1.0
    """Penalty of the leaves."""


@dataclass(frozen=True)
class FittedTrees:
    """Boosted trees that predict seconds."""

    booster: Any
    """LightGBM's."""
    target: Target
    leaves_each: int
    """At most, in a tree."""
    watched: F32
    """Of the training rows, ascending: what ranks are mapped back by."""

    @property
    def leaves(self) -> int:
        """Numbers that predictions are made of, the counterpart of parameters."""
        return int(self.booster.num_trees() * self.leaves_each)

    def seconds(self, feature_RF: F32) -> F64:
        """Return `[R]` predicted watch times, s."""
        raw_R = np.asarray(self.booster.predict(feature_RF, num_threads=1), np.float64)
        if self.target == "l1":
            return np.expm1(raw_R).clip(min=0)
        if self.target == "l2":
            return raw_R.clip(min=0)
        return np.interp(raw_R, (np.arange(len(self.watched)) + 0.5) / len(self.watched), self.watched)

    def gain(self, names: list[str] | tuple[str, ...]) -> dict[str, float]:
        """Return the ten features with the largest gain, as shares of the total."""
        gain_F = np.asarray(self.booster.feature_importance("gain"), np.float64)
        return {names[i]: float(gain_F[i] / max(gain_F.sum(), 1e-9)) for i in np.argsort(-gain_F)[:10]}


def features(
    encoder: FeedbackEncoder,
    log: Interactions,
    rows: I64,
    length: int,
    statistics: F32 | None = None,
    *,
    history_at: HistoryAt = "row",
) -> F32:
    """Return `[R, F]` the encoder's inputs and running statistics as numbers; see `plain_features`.

    Args:
        encoder: its tables are fitted.
        log: the exposures.
        rows: which of them.
        length: most steps of a sequence.
        statistics: what training rows may use of their videos; `None` reads the frozen tables.
        history_at: the row's own history, or that of the user's request.
    """
    first_row = log.first_row()
    history_rows = log.first_among(rows) if history_at == "request" else rows
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            seen = None if statistics is None else torch.from_numpy(statistics[part])[:, None]
            x = inputs_for(log, rows[part], length, first_row, history_rows=history_rows[part])
            parts.append(plain_features(encoder, x, seen)[:, 0].numpy())
    return np.concatenate(parts)


def fit_trees(
    target: Target,
    train: tuple[F32, F32],
    stop: tuple[F32, F32],
    categories: list[int],
    config: TreesConfig,
    *,
    seed: int,
) -> FittedTrees:
    """Fit LightGBM, and stop early by its own error on other rows.

    Args:
        target: the objective.
        train, stop: features `[R, F]` and watch times `[R]`, s.
        categories: columns that are no numbers.
        config: hyperparameters.
        seed: of the draws of rows and columns.

    Raises:
        BadInput: LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError as e:
        raise BadInput("LightGBM is not installed; pip install lightgbm and run it again.") from e

    watched = np.sort(train[1])

    def dataset(part: tuple[F32, F32], reference: Any = None) -> Any:
        label = part[1] if target == "l2" else np.log1p(part[1])
        label = _ranks(part[1], watched) if target == "rank" else label
        return lightgbm.Dataset(part[0], label, reference=reference, categorical_feature=categories)

    loss = "l1" if target == "l1" else "l2"
    train_set = dataset(train)
    booster = lightgbm.train(
        {
            "objective": loss,
            "metric": loss,
            "learning_rate": config.learning_rate,
            "num_leaves": config.leaves,
            "min_data_in_leaf": config.rows_per_leaf,
            "feature_fraction": config.column_share,
            "bagging_fraction": config.row_share,
            "bagging_freq": 1,
            "lambda_l2": config.l2,
            "seed": seed,
            "num_threads": torch.get_num_threads(),
            "verbose": -1,
        },
        train_set,
        num_boost_round=config.rounds,
        valid_sets=[dataset(stop, train_set)],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    return FittedTrees(booster, target, config.leaves, watched)


def _ranks(watched_R: F32, ascending: F32) -> F64:
    """Return the share of the training rows below each watch time, equal ones counted half."""
    below, up_to = (np.searchsorted(ascending, watched_R, side=side) for side in ("left", "right"))
    out: F64 = (below + up_to) / (2.0 * len(ascending))
    return out
