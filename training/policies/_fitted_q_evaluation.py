"""Fitted Q evaluation: the value of a policy by a model of its returns."""

from __future__ import annotations

from pathlib import Path

from models.arrays import F32
from training.policies._config import QLearningConfig
from training.policies._fit import fit_q
from training.policies._policy import Policy
from training.policies._q_network import QNetwork


def fitted_q_evaluation(
    folder: Path, vectors: F32, policy: Policy, config: QLearningConfig, *, seed: int = 0
) -> QNetwork:
    """Learn Q of a given policy, with targets r + γ Σ_a π(a | s') Q(s', a).

    Args:
        folder, vectors, config, seed: as in `fit_q`; conservative and self-supervised losses are off, and
            returns have one step, so that no propensity is needed.
        policy: whose value is wanted.

    Source: Le, Voloshin & Yue, "Batch policy learning under constraints", ICML 2019.
    """
    alone = {"conservative": 0.0, "self_supervised": 0.0, "n": 1}
    return fit_q(folder, vectors, config.model_copy(update=alone), policy=policy, seed=seed)
