"""A fitted model of ids, and what every way to forget makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

import torch
from torch import Tensor

from training.experiments.forgetting.config import ForgettingConfig, ModelConfig
from training.experiments.forgetting.fit import fit_table
from training.experiments.forgetting.id_model import IdModel
from training.experiments.forgetting.influence import Forgotten, forget_rows
from training.experiments.forgetting.light_gcn import LightGCN
from training.experiments.forgetting.matrix_factorisation import MatrixFactorisation
from training.experiments.forgetting.peers import Shards, ascend, fine_tune
from training.experiments.forgetting.removals import Removals
from training.experiments.forgetting.rows import Rows

REFIT_SEEDS: Final = (1000, 2000)
"""Added to the seed: a fit without the rows starts anew, and so does the second one."""

Logits = Callable[[Rows], Tensor]
"""Rows -> what a forgetful model predicts, `[N]`."""


@dataclass(frozen=True)
class FittedModel:
    """One model fitted with one seed on rows of which some are to be forgotten."""

    model: IdModel
    table: Tensor
    removals: Removals
    config: ForgettingConfig
    model_config: ModelConfig
    shards: Shards
    seed: int

    @classmethod
    def fit(cls, name: str, removals: Removals, nodes: int, config: ForgettingConfig, *, seed: int) -> Self:
        """Fit the model of a name in the config, alone and in shards."""
        rows, is_mf = removals.train, name == "matrix_factorisation"
        model: IdModel = MatrixFactorisation() if is_mf else LightGCN.from_rows(rows)
        chosen = config.matrix_factorisation if is_mf else config.light_gcn
        table = fit_table(model, rows, nodes, chosen.fit, seed=seed)
        shards = Shards(model, rows, nodes, config.shards, chosen.fit, seed=seed)
        return cls(model, table, removals, config, chosen, shards, seed)

    def refit(self, removed: Tensor, added: int) -> Logits:
        """Fit it without some rows, from the start of another seed."""
        remaining, fit = self.removals.train.take(~removed), self.model_config.fit
        model = self.model.on_rows(remaining)
        table = fit_table(model, remaining, len(self.table), fit, seed=self.seed + added)
        return partial(model.logits, table)

    def influence(self, removed: Tensor, **options: Any) -> tuple[Logits, Forgotten]:
        """Update it by influence; options as in `forget_rows`."""
        chosen = self.model_config
        found = forget_rows(
            self.model,
            self.table,
            self.removals.train,
            removed,
            chosen.fit.penalty,
            chosen.influence,
            **options,
        )
        return partial(self.model.on_rows(self.removals.train.take(~removed)).logits, found.table), found

    def forget(self, way: str, removed: Tensor) -> tuple[Logits, Forgotten | None]:
        """Return what a way to forget leaves, and what is known of its update."""
        rows, config = self.removals.train, self.config
        match way:
            case "retrain":
                return self.refit(removed, REFIT_SEEDS[0]), None
            case "influence":
                return self.influence(removed)
            case "influence, 2 steps":
                return self.influence(removed, steps=2)
            case "no spillover":
                return self.influence(removed, spillover=False)
            case "no pruning":
                return self.influence(removed, nodes=torch.unique(rows.edges))
            case "all-data curvature":
                return self.influence(removed, all_rows_curvature=True)
            case "SCIF":
                users = torch.unique(rows.user[removed])
                return self.influence(removed, nodes=users, spillover=False, all_rows_curvature=True)
            case "SISA":
                parts = self.shards.without(removed)
                return lambda test: torch.stack([m.logits(table, test) for m, table in parts]).mean(0), None
            case "fine-tuning":
                table = fine_tune(
                    self.model,
                    self.table,
                    rows.take(~removed),
                    self.model_config.fit,
                    epochs=config.fine_tuning_epochs,
                    seed=self.seed,
                )
                return partial(self.model.on_rows(rows.take(~removed)).logits, table), None
            case "negative gradient":
                steps, rate = config.ascent_steps, config.ascent_rate
                table = ascend(self.model, self.table, rows.take(removed), steps=steps, rate=rate)
                return partial(self.model.logits, table), None
            case _:
                return partial(self.model.logits, self.table), None
