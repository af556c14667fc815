"""The policies of the comparison, each fitted by one line of changes to Q-learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np

from models.arrays import F32
from training.experiments.config import MethodSpec
from training.policies import (
    Policy,
    QLearningConfig,
    Steps,
    fit_dense_dqn,
    fit_q,
    greedy,
    imitation,
    write_steps,
)

_MYOPIC: Final = {"gamma": 0.0, "conservative": 0.0, "self_supervised": 0.0}


@dataclass(frozen=True)
class Method(MethodSpec):
    """A row of the table."""

    kind: Literal["q", "imitation", "dense"] = "q"
    changes: Mapping[str, float] = field(default_factory=dict)
    """Of the config of Q-learning."""
    reward: Literal["watch_time", "label"] = "watch_time"


METHODS: Final = (
    Method("q-learning", "double Q, with the conservative and the self-supervised loss"),
    Method("greedy watch time", "highest predicted seconds of the next exposure", changes=_MYOPIC),
    Method("greedy label", "highest predicted label of the next exposure", changes=_MYOPIC, reward="label"),
    Method(
        "cloning",
        "what the log's policy would show",
        kind="imitation",
        changes=_MYOPIC | {"self_supervised": 1.0},
    ),
    Method(
        "sqn",
        "double Q, self-supervised at full weight",
        changes={"conservative": 0.0, "self_supervised": 1.0},
    ),
    Method("dense dqn", "double DQN with an output for each video, as SASRec4SV tried it", kind="dense"),
    Method(
        "double q",
        "neither loss, returns of one step",
        ablation=True,
        changes={"conservative": 0.0, "self_supervised": 0.0, "n": 1},
    ),
)


class FittingLog(NamedTuple):
    """A log that policies are fitted on."""

    watch_time: Path
    """Of `write_steps`; the reward is seconds, or what counts as such."""
    label: Path
    """The same with a label as the reward."""
    vectors: F32
    """`[V, E]`"""


def write_both(folder: Path, steps: Steps, label_N: F32, vectors: F32) -> FittingLog:
    """Write steps with their own reward, and with a label in its place."""
    write_steps(folder / "watch_time", iter([steps]))
    write_steps(folder / "label", iter([steps._replace(reward=label_N.astype(np.float32))]))
    return FittingLog(folder / "watch_time", folder / "label", vectors)


def fit_policy(method: Method, log: FittingLog, config: QLearningConfig, seed: int) -> Policy:
    """Fit the policy of one row."""
    folder = log.label if method.reward == "label" else log.watch_time
    config = config.model_copy(update=dict(method.changes))
    if method.kind == "dense":
        return fit_dense_dqn(folder, len(log.vectors), config, seed=seed)
    network = fit_q(folder, log.vectors, config, seed=seed)
    return imitation(network) if method.kind == "imitation" else greedy(network)
