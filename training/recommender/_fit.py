"""Labels in, a fitted recommender out."""

# Shape suffixes: N rows of the log, R rows picked, B rows of a batch, T labels and their heads.

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import F32, I64
from models.errors import BadInput
from models.metrics import nwtg_at_k
from training.data import Interactions
from training.encoders import DinRows
from training.recommender._adversary import Adversary
from training.recommender._config import RecommenderConfig
from training.recommender._shared_bottom import SharedBottom
from training.strata import DurationGroups


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
        """`[R]` what lists are sorted by, in [0, 1], for rows of the log, each with its own history."""
        return combined(torch.sigmoid(self.logits(rows)), self.config).numpy()

    def logits(self, rows: I64, batch: int = 4096) -> Tensor:
        """`[R, T]` of rows of the log, without gradients."""
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
    """`[B, T]` heads -> `[B]` one score in [0, 1]."""
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
        stop: rows of early stopping, see `RecommenderConfig.stop_by`; `None` makes all epochs.
        labels_NT: `[N, T]` labels of every row of the log in [0, 1], of which those of `train` are read.
        config: knobs.
        seed: decides the initial weights and the order of the rows.
        on_progress: called after each step with the share of the work that is done at most.

    Raises:
        BadInput: no training rows, nobody with more than k early-stop rows, or a fit that diverged.
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
    return _Loop(log, train, stop, labels_NT, config, seed).run(on_progress)


class _Loop:
    """What does not change while `fit_recommender` runs."""

    def __init__(
        self,
        log: Interactions,
        train: I64,
        stop: I64 | None,
        labels_NT: F32,
        config: RecommenderConfig,
        seed: int,
    ) -> None:
        self.log, self.train, self.stop, self.config = log, train, stop, config
        self.label_NT = torch.from_numpy(labels_NT.astype(np.float32))
        groups = DurationGroups(config.duration_groups if config.duration_feature else 1)
        edges: F32 = groups.fit(log.duration_s[train]).edges.numpy()
        self.prepared = DinRows(log, edges, config.history)
        self.random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.recommender = SharedBottom(
            labels_NT.shape[1],
            config.din,
            users=len(log.user_ids),
            videos=int(log.ids[:, 0].max(initial=1)) + 1,
            groups=len(edges) + 2,
            tags=int(log.ids[:, 2].max(initial=1)) + 1,
        )
        self.adversary = Adversary() if config.adversary else None
        duration = log.duration_s
        mean, deviation = float(duration[train].mean()), float(duration[train].std()) or 1.0
        self.duration_N = torch.from_numpy((duration - mean) / deviation)
        self.optimiser = torch.optim.AdamW(
            self.recommender.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def run(self, on_progress: Callable[[float], None]) -> FittedRecommender:
        config, curves = self.config, list[dict[str, Any]]()
        best, best_epoch, best_state = -np.inf, 0, self.recommender.state_dict()
        steps = -(-len(self.train) // config.batch_size)
        for epoch in range(config.epochs):
            self.recommender.train()
            loss = 0.0
            for i, pick in enumerate(np.array_split(self.random.permutation(len(self.train)), steps)):
                loss += self._step(self.train[pick]) / steps
                on_progress((epoch * steps + i + 1) / (config.epochs * steps))
            fitted = FittedRecommender(self.recommender, self.prepared, config, epoch, curves)
            # The loss was taken before each step: what the last one did shows in the scores alone.
            sane = bool(fitted.logits(self.train[: config.batch_size]).isfinite().all())
            if not (sane and np.isfinite(loss)):
                raise BadInput(
                    f"the recommender diverged in epoch {epoch} at learning_rate = "
                    f"{config.learning_rate:g}; lower it."
                )
            figure = float(epoch) if self.stop is None else self._figure(fitted, self.stop)
            curves.append({"epoch": epoch, "loss": loss, "stop": None if self.stop is None else figure})
            if figure > best:
                best, best_epoch = figure, epoch
                best_state = copy.deepcopy(self.recommender.state_dict())
            elif epoch - best_epoch >= config.patience:
                break
        self.recommender.load_state_dict(best_state)
        self.recommender.eval()
        on_progress(1.0)
        return FittedRecommender(self.recommender, self.prepared, config, best_epoch, curves)

    def _step(self, rows: I64) -> float:
        picked = torch.from_numpy(rows)
        z_BT = self.recommender(*self.prepared.alone(rows))[:, 0]
        loss = _loss(z_BT, self.label_NT[picked], self.config)
        if self.adversary is not None:
            score_B = torch.sigmoid(z_BT[:, 0])  # the first head is the one whose duration bias is at stake
            duration_B = self.duration_N[picked]
            loss = loss + self.config.adversary * self.adversary.fit(score_B, duration_B)(score_B, duration_B)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def _figure(self, fitted: FittedRecommender, rows: I64) -> float:
        if self.config.stop_by == "own":
            label_RT = self.label_NT[torch.from_numpy(rows)]
            return -float(_loss(fitted.logits(rows), label_RT, self.config))
        score, k = fitted.score(rows), self.config.k
        figure = nwtg_at_k(self.log.user[rows], score, self.log.watch_time_s[rows], k).weighted_mean
        if figure is None:
            raise BadInput(
                f"no user has more than k = {k} of the {len(rows)} early-stop exposures, so there is nothing "
                "to stop by; widen its days or lower k."
            )
        return figure
