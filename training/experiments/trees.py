"""Boosted trees on what the encoder computes without parameters: the baseline a team would start with."""

# Shape suffixes: R rows, F features.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.errors import BadInput
from training.data import Interactions
from training.encoders import FeedbackEncoder, inputs_for, plain_features

Target = Literal["l1", "log_l2"]
"""Seconds with absolute error, or log(1 + seconds) with squared error."""

_ROUNDS: Final = 2000
_PATIENCE: Final = 50
_LEAVES: Final = 63
_BATCH: Final = 4096
_PARAMETERS: Final = {
    "learning_rate": 0.05,
    "num_leaves": _LEAVES,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "verbose": -1,
}


@dataclass(frozen=True)
class FittedTrees:
    """Boosted trees that predict seconds."""

    booster: Any
    """LightGBM's."""
    target: Target

    @property
    def leaves(self) -> int:
        """Numbers that predictions are made of, the counterpart of parameters."""
        return int(self.booster.num_trees() * _LEAVES)

    def seconds(self, feature_RF: F32) -> F64:
        """Return `[R]` predicted watch times, s."""
        raw_R = np.asarray(self.booster.predict(feature_RF, num_threads=1), np.float64)
        return np.expm1(raw_R).clip(min=0) if self.target == "log_l2" else raw_R.clip(min=0)

    def gain(self, names: list[str] | tuple[str, ...]) -> dict[str, float]:
        """Return the ten features with the largest gain, as shares of the total."""
        gain_F = np.asarray(self.booster.feature_importance("gain"), np.float64)
        return {names[i]: float(gain_F[i] / max(gain_F.sum(), 1e-9)) for i in np.argsort(-gain_F)[:10]}


def features(
    encoder: FeedbackEncoder, log: Interactions, rows: I64, length: int, statistics: F32 | None
) -> F32:
    """Return `[R, F]` the encoder's inputs and running statistics as numbers; see `plain_features`.

    Args:
        encoder: its tables are fitted.
        log: the exposures.
        rows: which of them.
        length: most steps of a sequence.
        statistics: what training rows may use of their videos; `None` reads the frozen tables.
    """
    first_row = log.first_row()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            seen = None if statistics is None else torch.from_numpy(statistics[part])[:, None]
            x = inputs_for(log, rows[part], length, first_row)
            parts.append(plain_features(encoder, x, seen)[:, 0].numpy())
    return np.concatenate(parts)


def fit_trees(
    target: Target, train: tuple[F32, F32], stop: tuple[F32, F32], categories: list[int], *, seed: int
) -> FittedTrees:
    """Fit LightGBM, and stop early by its metric on other rows.

    Args:
        target: the objective.
        train, stop: features `[R, F]` and watch times `[R]`, s.
        categories: columns that are no numbers.
        seed: of the draws of rows and columns.

    Raises:
        BadInput: LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError as e:
        raise BadInput("LightGBM is not installed; pip install lightgbm and run it again.") from e

    def dataset(part: tuple[F32, F32], reference: Any = None) -> Any:
        label = np.log1p(part[1]) if target == "log_l2" else part[1]
        return lightgbm.Dataset(part[0], label, reference=reference, categorical_feature=categories)

    loss = "l1" if target == "l1" else "l2"
    train_set = dataset(train)
    booster = lightgbm.train(
        {
            **_PARAMETERS,
            "objective": loss,
            "metric": loss,
            "seed": seed,
            "num_threads": torch.get_num_threads(),
        },
        train_set,
        num_boost_round=_ROUNDS,
        valid_sets=[dataset(stop, train_set)],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    return FittedTrees(booster, target)
