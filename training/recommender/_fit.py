"""Labels in, a fitted recommender out."""

# Shape suffixes: N rows of the log, R rows picked, B rows of a batch, T labels and their heads.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import F32, I64
from models.errors import BadInput
from training.data import Interactions
from training.encoders import DinRows
from training.recommender._adversary import Adversary
from training.recommender._config import RecommenderConfig
from training.recommender._shared_bottom import SharedBottom
from training.strata import DurationGroups
from training.train.trainer import Evaluation, StepResult, early_stop_nwtg
from training.train.trainer import train as train_model


@dataclass(frozen=True)
class FittedRecommender:
    """A recommender at the epoch that early stopping chose."""

    recommender: SharedBottom
    prepared: DinRows
    """The log as it reads it."""
    config: RecommenderConfig
    best_epoch: int
    """Counted from 0. Without early-stop rows the last one."""
    curves: list[dict[str, Any]]
    """One entry an epoch: `epoch`, `loss`, and `stop`, the early-stop figure."""

    def score(self, rows: I64) -> F32:
        """Return the `[R]` scores in [0, 1] of rows of the log, each with its own history."""
        return combined(torch.sigmoid(self.logits(rows)), self.config).numpy()

    def logits(self, rows: I64, batch: int = 4096) -> Tensor:
        """Return the `[R, T]` logits of rows of the log, without gradients."""
        self.recommender.eval()
        none = torch.zeros(0, 1 + len(self.recommender.more))
        with torch.no_grad():
            parts = [
                self.recommender(*self.prepared.alone(rows[start : start + batch]))[:, 0]
                for start in range(0, len(rows), batch)
            ]
        return torch.cat([none, *parts])


def _loss(z_BT: Tensor, label_BT: Tensor, config: RecommenderConfig) -> Tensor:
    """Mean over rows and heads, a scalar."""
    if config.loss == "mse":
        return nn.functional.mse_loss(torch.sigmoid(z_BT), label_BT)
    return nn.functional.binary_cross_entropy_with_logits(z_BT, label_BT)


def combined(probability_BT: Tensor, config: RecommenderConfig) -> Tensor:
    """Return the `[B]` score in [0, 1] of `[B, T]` heads."""
    if config.combine == "product":
        return probability_BT.log().mean(-1).exp()
    if config.combine == "weighted":
        weight_T = torch.tensor(config.head_weights)
        return probability_BT @ (weight_T / weight_T.sum())
    return probability_BT.mean(-1)


def fit_recommender(
    log: Interactions,
    train: I64,
    stop: I64 | None,
    labels_NT: F32,
    config: RecommenderConfig | None = None,
    *,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> FittedRecommender:
    """Fit DIN on any labels.

        L = mean_T MSE(σ(z_t), y_t) + λ_adv MSE(rec(GRL(score)), d)

    Args:
        log: N exposures; histories reach back over all of it, never forward.
        train: rows it learns from, ascending.
        stop: rows of early stopping, see `RecommenderConfig.stop_by`; `None` keeps the last epoch.
        labels_NT: `[N, T]` labels of every row of the log in [0, 1], of which those of `train` are read.
        config: hyperparameters.
        seed: decides the initial weights and the order of the rows.
        on_progress: called after each step with the share of the work that is done at most.

    Raises:
        BadInput: no training rows, no user with more than k early-stop rows, or a fit that diverged.
        ValueError: labels that are not `[N, T]`, or not one of `head_weights` for each head.
    """
    config = config or RecommenderConfig()
    if labels_NT.ndim != 2 or len(labels_NT) != len(log):
        raise ValueError(f"`labels_NT` must be [{len(log)}, T], found {labels_NT.shape}.")
    heads = labels_NT.shape[1]
    if config.combine == "weighted" and len(config.head_weights) != heads:
        raise ValueError(f"`head_weights` must hold {heads} weights, found {len(config.head_weights)}.")
    if not len(train):
        raise BadInput("there are no rows to fit a recommender on; check the dates of the split.")
    label_NT = torch.from_numpy(labels_NT.astype(np.float32))
    groups = DurationGroups(config.duration_groups if config.duration_feature else 1)
    edges: F32 = groups.fit(log.duration_s[train]).edges.numpy()
    prepared = DinRows(log, edges, config.history)
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    recommender = SharedBottom(heads, config.din, **prepared.table_rows)
    adversary = Adversary() if config.adversary else None
    mean, deviation = float(log.duration_s[train].mean()), float(log.duration_s[train].std()) or 1.0
    duration_N = torch.from_numpy((log.duration_s - mean) / deviation)
    optimiser = torch.optim.AdamW(
        recommender.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )

    def step(pick: I64) -> StepResult:
        rows = train[pick]
        picked = torch.from_numpy(rows)
        z_BT = recommender(*prepared.alone(rows))[:, 0]
        loss = _loss(z_BT, label_NT[picked], config)
        if adversary is not None:
            score_B = torch.sigmoid(z_BT[:, 0])  # the first head is the one whose duration bias is at stake
            duration_B = duration_N[picked]
            loss = loss + config.adversary * adversary.fit(score_B, duration_B)(score_B, duration_B)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return StepResult((float(loss.detach()),))

    def evaluate(model: SharedBottom, rows: I64) -> Evaluation:
        fitted = FittedRecommender(model, prepared, config, 0, [])
        if config.stop_by == "own":
            error = float(_loss(fitted.logits(rows), label_NT[torch.from_numpy(rows)], config))
            return Evaluation(error, {"stop": -error})
        nwtg = early_stop_nwtg(log, rows, fitted.score(rows), config.k)
        return Evaluation(-nwtg, {"stop": nwtg})

    trained = train_model(
        recommender,
        lambda: np.array_split(random.permutation(len(train)), -(-len(train) // config.batch_size)),
        step,
        None if stop is None else lambda model: evaluate(model, stop),
        epochs=config.epochs,
        rates=f"learning_rate = {config.learning_rate:g}",
        patience=config.patience,
        on_step=on_progress,
    )
    curves = [{"epoch": e.epoch, "loss": e.losses[0], "stop": e.metrics.get("stop")} for e in trained.epochs]
    return FittedRecommender(recommender, prepared, config, trained.best_epoch, curves)
