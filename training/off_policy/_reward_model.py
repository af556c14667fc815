"""A model of rewards for the doubly robust estimators, never applied to users it was fitted on."""

# Shape suffixes: N logged slates, K positions, M candidates, F features, Q folds.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from models.arrays import F64, I64

FOLDS: Final = 5


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Ridge regressions of the reward on features of the video, one for each position and fold of users."""

    coefficient: F64
    """`[Q, K, F]`, the intercept last."""
    fold: I64
    """`[N]`"""

    @classmethod
    def fit(
        cls,
        features_NKF: F64,
        reward_NK: F64,
        user_N: I64,
        *,
        folds: int = FOLDS,
        penalty: float = 1.0,
        seed: int = 0,
    ) -> Self:
        """Fit each fold's regressions to the users of the other folds.

        Args:
            features_NKF: of the shown videos; their scale decides how much the penalty shrinks them.
            reward_NK: what is predicted.
            user_N: whom each slate was shown to: a user is in one fold.
            folds, seed: of the random partition of the users.
            penalty: of squared coefficients, but not of the intercept.
        """
        users, index_N = np.unique(user_N, return_inverse=True)
        fold_N = np.random.default_rng(seed).permutation(len(users))[index_N] % folds
        design_NKF = _with_intercept(features_NKF)
        features = design_NKF.shape[-1]
        gram_QKFF = np.empty((folds, design_NKF.shape[1], features, features))
        moment_QKF = np.empty(gram_QKFF.shape[:3])
        for fold in range(folds):
            rest_NKF = design_NKF[fold_N != fold].transpose(1, 2, 0)
            gram_QKFF[fold] = rest_NKF @ rest_NKF.transpose(0, 2, 1)
            moment_QKF[fold] = (rest_NKF @ reward_NK[fold_N != fold].T[..., None])[..., 0]
        ridge_FF = penalty * np.eye(features)
        ridge_FF[-1, -1] = 1e-9  # a position without rows predicts 0
        coefficient_QKF1 = np.linalg.solve(gram_QKFF + ridge_FF, moment_QKF[..., None])
        return cls(coefficient_QKF1[..., 0].astype(np.float64), fold_N)

    def predict(self, features_NMF: F64) -> F64:
        """Predict the reward of every candidate at every position, `[N, K, M]`."""
        coefficient_NKF = self.coefficient[self.fold]
        out: F64 = coefficient_NKF @ _with_intercept(features_NMF).transpose(0, 2, 1)
        return out


def _with_intercept(features: F64) -> F64:
    return np.concatenate([features, np.ones((*features.shape[:-1], 1))], axis=-1)
