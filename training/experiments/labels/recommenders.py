"""Recommenders of different kinds, fitted on any labels of the rows known at an origin."""

# Shape suffixes: N rows known at the origin, R rows of the window's slates, L labels, F features.

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from models.arrays import F32, F64, I64
from models.errors import BadInput
from training.data import Interactions
from training.experiments.labels.config import TreesConfig
from training.experiments.labels.methods import Order
from training.experiments.labels.rolling import RollingOrigin, Window
from training.labelcraft.closed_form import (
    VIDEO_FEEDBACK,
    VIDEO_WATCH_TIME,
    NormalEquations,
    knows_duration,
    with_products,
)
from training.recommender import SequencesConfig, fit_sequences

_CHUNK: Final = 16_384


def drawn_users(users: int, random: np.random.Generator) -> F64:
    """Return `[users]` how often each is drawn when as many are drawn with replacement."""
    return np.bincount(random.integers(users, size=users), minlength=users).astype(np.float64)


class Ridge:
    """A ridge regression on rows that come window by window.

    Args:
        origin: the log and its features.
        weight_U: `[users of the log]` how much the rows of each count.
        ridge: λ.
    """

    def __init__(self, origin: RollingOrigin, weight_U: F64, ridge: float) -> None:
        self.origin, self.weight_U = origin, weight_U
        self._columns = with_products(origin.features[:1]).shape[1]
        self._normal = NormalEquations(self._columns, ridge)
        self._known = np.zeros(0, np.int64)

    def scores(self, window: Window, label_NL: F32) -> F64:
        """Fit to a window's known rows and return `[2, R, L]` scores: with the features that know durations,
        and without. Windows come oldest first.

        Args:
            window: the next one.
            label_NL: labels of its known rows.
        """
        features, known = self.origin.features, window.known
        weight_N = self.weight_U[self.origin.log.user[known]]
        moment_FL = np.zeros((self._columns, label_NL.shape[1]))
        for start in range(0, len(known), _CHUNK):
            part = slice(start, start + _CHUNK)
            z_BF = with_products(features[known[part]])
            moment_FL += (z_BF.T * weight_N[part]) @ label_NL[part]
            fresh_B = ~np.isin(known[part], self._known, assume_unique=True)  # the others are in it
            self._normal.add(z_BF[fresh_B], weight_N[part][fresh_B])
        self._known = known
        z_RF = with_products(features[window.rows])
        blind_F = ~knows_duration(features.shape[1])
        return np.stack([z_RF @ self._normal.solve(moment_FL, kept_F) for kept_F in (None, blind_F)])


class Trees:
    """Boosted trees on the features of one window's known rows, binned once for all labels.

    Args:
        origin: the log and its features.
        window: whose known rows are fitted to.
        config: hyperparameters.
        duration_blind: leave out the features that know durations.

    Raises:
        BadInput: LightGBM is not installed.
    """

    def __init__(
        self, origin: RollingOrigin, window: Window, config: TreesConfig, *, duration_blind: bool = False
    ) -> None:
        try:
            import lightgbm
        except ImportError as e:
            raise BadInput("LightGBM is not installed; pip install lightgbm and run it again.") from e
        self._lightgbm: Any = lightgbm
        features = origin.features.shape[1]
        keep = ~knows_duration(features)[1 : 1 + features] if duration_blind else slice(None)
        self._user_N = origin.log.user[window.known]
        self._feature_RF = np.ascontiguousarray(origin.features[window.rows][:, keep])
        known_NF = np.ascontiguousarray(origin.features[window.known][:, keep])
        self._known = lightgbm.Dataset(known_NF, free_raw_data=False)
        self._config = config

    def score(self, label_N: F32, weight_U: F64, *, seed: int) -> F64:
        """Return `[R]` scores of trees fitted to a label.

        Args:
            label_N: of the known rows.
            weight_U: how much the rows of each user of the log count.
            seed: of the trees.
        """
        config = self._config
        self._known.set_label(np.ascontiguousarray(label_N)).set_weight(weight_U[self._user_N])
        booster = self._lightgbm.train(
            {
                "objective": "regression",
                "learning_rate": config.learning_rate,
                "num_leaves": config.leaves,
                "min_data_in_leaf": config.rows_per_leaf,
                "feature_fraction": 0.7,
                "seed": seed,
                "num_threads": 1,
                "verbose": -1,
            },
            self._known,
            num_boost_round=config.rounds,
        )
        return np.asarray(booster.predict(self._feature_RF, num_threads=1), np.float64)


def network_scores(
    origin: RollingOrigin, window: Window, label_N: F32, config: SequencesConfig, *, seed: int
) -> F64:
    """Return `[R]` scores of SASRec4SV's model fitted to a label of the known rows.

    The last known day decides how long. A user's candidates are those of one request: none sees another.

    Args:
        origin: the log.
        window: whose known rows are fitted to.
        label_N: of the known rows.
        config: hyperparameters.
        seed: of the initial weights and the order of the users.
    """
    rows = np.union1d(window.known, window.rows)
    log, position = _as_one_request(origin.log.take(rows), np.searchsorted(rows, window.rows))
    known = position[np.searchsorted(rows, window.known)]
    day_N = origin.day[window.known]
    last_N = day_N == day_N.max()
    label = np.zeros(len(log), np.float32)
    label[known] = label_N
    fitted = fit_sequences(
        log, np.sort(known[~last_N]), label, config, stop=np.sort(known[last_N]), seed=seed
    )
    candidates = position[np.searchsorted(rows, window.rows)]
    order = np.argsort(candidates)
    score_R = np.empty(len(candidates))
    score_R[order] = fitted.predict(candidates[order])
    return score_R


def _as_one_request(log: Interactions, rows: I64) -> tuple[Interactions, I64]:
    """Return the log as if a user's rows among these came at the same moment, and where each row is in it."""
    time_N = log.timestamp_ms.copy()
    user_R = log.user[rows]
    time_N[rows] = time_N[rows][np.searchsorted(user_R, user_R)]
    order = np.lexsort((log.ids[:, 0], time_N, log.user))
    position = np.empty(len(log), np.int64)
    position[order] = np.arange(len(log))
    together = replace(
        log,
        user=log.user[order],
        ids=log.ids[order],
        timestamp_ms=time_N[order],
        feedback=log.feedback[order],
    )
    return together, position


def order_scores(origin: RollingOrigin, window: Window, order: Order, random: np.random.Generator) -> F64:
    """Return `[R]` scores of an order that needs no recommender."""
    if order == "random":
        return random.random(len(window.rows))
    if order == "longest":
        return np.asarray(origin.log.duration_s[window.rows], np.float64)
    column = VIDEO_WATCH_TIME if order == "video_watch_time" else VIDEO_FEEDBACK
    return np.asarray(origin.features[window.rows, column], np.float64)
