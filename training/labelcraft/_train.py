"""The loop that learns a labelling function."""

# Shape suffixes: N rows of the log, R rows picked.

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32, I64
from models.errors import BadInput
from models.metrics import nwtg_at_k
from training.data import Interactions
from training.encoders import DIN, DinRows
from training.labelcraft._config import LabelCraftConfig
from training.labelcraft._model import LabelCraft
from training.labelcraft._objectives import OBJECTIVES, Objective
from training.labelcraft._outer import HoldOut, MetaLearner, MetaStep, Moments, predict
from training.labelcraft._warm_start import warm_start
from training.labels import Scale
from training.strata import DurationGroups

Curve = list[dict[str, Any]]
"""One entry an epoch: `epoch`, `loss`, `seconds`, `label_mean`, `label_std`, `nwtg`, and for each objective
its mean and weight."""


@dataclass(frozen=True)
class FittedLabels:
    """Both levels at the epoch that early stopping chose."""

    labeler: LabelCraft
    """g_φ, frozen, in evaluation mode."""
    recommender: DIN
    """f_θ, trained on its labels."""
    prepared: DinRows
    """The log as the recommender reads it."""
    best_epoch: int
    """Counted from 0. Without early-stop rows the last one."""
    curves: Curve

    def score(self, rows: I64) -> F32:
        """`[R]` probabilities of rows of the log it was fitted on, each with its own history."""
        return predict(self.recommender, self.prepared, rows)


@dataclass
class Checkpoint:
    """Everything the loop needs to go on as if it had not stopped; `torch.save` takes `vars(checkpoint)`."""

    next_epoch: int
    recommender: dict[str, Tensor]
    labeler: dict[str, Tensor]
    optimiser: dict[str, Any]
    random: dict[str, Any]
    moments: tuple[dict[str, Tensor], int]
    """Of the inner gradients, see `Moments`."""
    best_epoch: int
    best: tuple[float, dict[str, Tensor], dict[str, Tensor]]
    """Early-stop figure, recommender and label maker of the best epoch."""
    curves: Curve = field(default_factory=list)


def fit_labelcraft(
    log: Interactions,
    train: I64,
    meta: I64,
    stop: I64 | None,
    config: LabelCraftConfig | None = None,
    *,
    seed: int = 0,
    objectives: Mapping[str, Objective] = OBJECTIVES,
    on_progress: Callable[[float], None] = lambda _: None,
    on_epoch: Callable[[Checkpoint], None] | None = None,
    resume: Checkpoint | None = None,
) -> FittedLabels:
    """Learn labels: alternate the two levels until the recommender stops getting better.

    Args:
        log: every exposure; histories reach back over all of it, never forward.
        train: rows of the inner level, ascending.
        meta: rows the platform's objectives are measured on.
        stop: rows of early stopping, user-weighted NWTG@k; `None` makes `config.epochs` epochs.
        config: knobs.
        seed: decides the initial weights, the order of the rows and the hold-out users of a step.
        objectives: what the platform wants, by name.
        on_progress: called after each step with the share of the work that is done at most.
        on_epoch: called after each epoch with what `resume` takes.
        resume: go on from there; the same log, rows, config and seed must be given again.

    Raises:
        BadInput: no training rows, nobody with more than k hold-out rows, or no explicit feedback while
            that objective is on: each would learn nothing, silently.

    Source: LabelCraft, WSDM 2024. Deviation: the authors stop early on the rows they measure M on; here they
    are apart unless `config.shared_hold_out`.
    """
    config = config or LabelCraftConfig()
    if not len(train):
        raise BadInput("there are no rows to train labels on; check the dates of the split.")
    if config.shared_hold_out and stop is not None:
        meta = stop = np.union1d(meta, stop)
    learned_on = log.take(train)
    torch.manual_seed(seed)
    labeler = LabelCraft(config).fit(learned_on)
    if config.warm_start:
        warm_start(labeler, learned_on, seed=seed)
    edges: F32 = DurationGroups(config.duration_groups).fit(learned_on.duration_s).edges.numpy()
    edges = edges[np.isfinite(edges)]
    prepared = DinRows(log, edges, config.history)
    torch.manual_seed(seed + 1)  # the recommender starts alike however much the label maker drew
    recommender = DIN(
        users=len(log.user_ids),
        videos=int(log.ids[:, 0].max(initial=1)) + 1,
        groups=len(edges) + 2,
        tags=int(log.ids[:, 2].max(initial=1)) + 1,
        config=config.recommender,
    )
    with torch.no_grad():
        level = float(labeler(torch.from_numpy(learned_on.feedback)).mean()) if config.hold_level else None
    learner = MetaLearner(recommender, labeler, config, objectives, level)
    held = _held_out(learner, log, learned_on, meta, prepared)
    return _Loop(learner, labeler, log, train, held, stop, prepared, seed).run(on_progress, on_epoch, resume)


def _held_out(
    learner: MetaLearner, log: Interactions, learned_on: Interactions, meta: I64, prepared: DinRows
) -> HoldOut | None:
    """The outer level's users, or `None` where there is no outer level."""
    if learner.frozen:
        return None
    config = learner.config
    held = HoldOut(
        log,
        meta,
        prepared,
        watch_scale=Scale(name="watch time", linear=not config.scaling).fit(learned_on.watch_time_s),
        duration_scale=Scale(name="duration", linear=not config.scaling).fit(learned_on.duration_s),
        k=config.k,
    )
    if not len(held):
        raise BadInput(
            f"no user has more than k = {config.k} exposures among the {len(meta)} of the meta hold-out, so "
            "no slate can be chosen; widen its days or lower k."
        )
    if "engagement" in learner.objectives and config.disable != "engagement" and not log.explicit[meta].any():
        raise BadInput(
            "nobody gave explicit feedback (like, follow, comment, forward) in the meta hold-out, so "
            'engagement cannot be learned; widen its days or set `disable="engagement"`.'
        )
    return held


class _Loop:
    """What does not change while `fit_labelcraft` runs."""

    def __init__(
        self,
        learner: MetaLearner,
        labeler: LabelCraft,
        log: Interactions,
        train: I64,
        held: HoldOut | None,
        stop: I64 | None,
        prepared: DinRows,
        seed: int,
    ) -> None:
        self.learner, self.labeler, self.config = learner, labeler, learner.config
        self.log, self.train, self.held, self.stop, self.prepared = log, train, held, stop, prepared
        self.feedback = torch.from_numpy(log.feedback)
        self.random = np.random.default_rng(seed)
        self.modules = (learner.recommender, labeler)

    def run(
        self,
        on_progress: Callable[[float], None],
        on_epoch: Callable[[Checkpoint], None] | None,
        resume: Checkpoint | None,
    ) -> FittedLabels:
        at = resume if resume is None else self._restore(resume)
        at = at or Checkpoint(0, {}, {}, {}, {}, ({}, 0), -1, (-np.inf, {}, {}))
        began = time.monotonic()
        while at.next_epoch < self.config.epochs:
            entry = self._epoch(at.next_epoch, on_progress)
            entry["seconds"] = time.monotonic() - began
            at.curves.append(entry)
            figure = entry["nwtg"] if self.stop is not None else float(at.next_epoch)
            if figure > at.best[0] + self.config.min_gain:
                states = [copy.deepcopy(m.state_dict()) for m in self.modules]
                at.best, at.best_epoch = (figure, states[0], states[1]), at.next_epoch
            at.next_epoch += 1
            if on_epoch is not None:
                self._save(at)
                on_epoch(copy.deepcopy(at))
            if self.stop is not None and at.next_epoch - 1 - at.best_epoch >= self.config.patience:
                break
            if self.config.max_seconds is not None and entry["seconds"] >= self.config.max_seconds:
                break
        for module, state in zip(self.modules, at.best[1:], strict=True):
            module.load_state_dict(state)
            module.eval()
        on_progress(1.0)
        return FittedLabels(self.labeler, self.learner.recommender, self.prepared, at.best_epoch, at.curves)

    def _epoch(self, epoch: int, on_progress: Callable[[float], None]) -> dict[str, Any]:
        steps = max(1, -(-len(self.train) // self.config.batch_size))
        seen: list[MetaStep] = []
        for i, pick in enumerate(np.array_split(self.random.permutation(len(self.train)), steps)):
            rows = self.train[pick]
            held = None if self.held is None else self.held.of(self._some_users(len(self.held)))
            seen.append(
                self.learner.step(
                    self.prepared.alone(rows),
                    self.feedback[torch.from_numpy(rows)],
                    held,
                    hold_labels=epoch < self.config.warmup_epochs,
                )
            )
            on_progress((epoch * steps + i + 1) / (self.config.epochs * steps))
        with torch.no_grad():
            label_N = self.labeler(self.feedback[torch.from_numpy(self.train)])
        if not all(bool(p.isfinite().all()) for m in self.modules for p in m.parameters()):
            raise BadInput(
                f"the fit diverged in epoch {epoch} at lr_recommender = {self.config.lr_recommender:g}, "
                f"lr_embeddings = {self.config.lr_embeddings or self.config.lr_recommender:g}, "
                f"lr_labels = {self.config.lr_labels:g}; lower them, or raise batch_size."
            )
        entry: dict[str, Any] = {
            "epoch": epoch,
            "loss": float(np.mean([s.loss for s in seen])),
            "label_mean": float(label_N.mean()),
            "label_std": float(label_N.std(correction=0)),
        }
        if self.held is not None:
            asked = [s for s in seen if s.objectives]
            for t, name in enumerate(self.learner.objectives if asked else ()):
                entry[name] = float(np.mean([s.objectives[t] for s in asked]))
                entry[f"weight.{name}"] = float(np.mean([s.weights[t] for s in asked]))
            if asked:
                entry["gradient_norm"] = float(np.mean([s.gradient_norm for s in asked]))
        entry["nwtg"] = None if self.stop is None else self._early_stop_figure(self.stop)
        return entry

    def _some_users(self, users: int) -> I64:
        count = max(1, round(self.config.user_share * users))
        return np.sort(self.random.choice(users, count, replace=False)).astype(np.int64)

    def _early_stop_figure(self, rows: I64) -> float:
        score = predict(self.learner.recommender, self.prepared, rows)
        user, watched = self.log.user[rows], self.log.watch_time_s[rows]
        figure = nwtg_at_k(user, score, watched, self.config.k).weighted_mean
        if figure is None:
            raise BadInput(
                f"no user has more than k = {self.config.k} of the {len(rows)} early-stop exposures, so "
                "there is nothing to stop by; widen its days or lower k."
            )
        return figure

    def _save(self, at: Checkpoint) -> None:
        at.recommender, at.labeler = (dict(m.state_dict()) for m in self.modules)
        at.optimiser = {} if self.learner.frozen else self.learner.optimiser.state_dict()
        at.moments = (self.learner.moments.square, self.learner.moments.steps)
        at.random = dict(self.random.bit_generator.state)

    def _restore(self, resume: Checkpoint) -> Checkpoint:
        at = copy.deepcopy(resume)
        for module, state in zip(self.modules, (at.recommender, at.labeler), strict=True):
            module.load_state_dict(state)
        if not self.learner.frozen:
            self.learner.optimiser.load_state_dict(at.optimiser)
        self.learner.moments = Moments(*at.moments)
        self.random.bit_generator.state = at.random
        return at
