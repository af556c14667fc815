"""Forgetting by influence in the served ranker: rows that have left its tables leave its weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from models.arrays import I64
from training.experiments.forgetting_ranker.config import RankerForgettingConfig
from training.experiments.forgetting_ranker.row_loss import (
    FitRows,
    Parameters,
    RowLoss,
    gauss_newton,
    total_gradient,
)
from training.forgetting import Removal, Update, influence_update
from training.rankers import Ranker
from training.train.fit import Windows
from training.train.fitted import Fitted
from training.train.forget import rows_by_table
from training.train.run_config import RunConfig
from training.train.verification import order_of_rows, taken_out


@dataclass(frozen=True)
class Change:
    """What a removal changes in the gradient of some parameters, and the curvature of the remaining rows."""

    parameters: Parameters
    forgotten: Tensor
    """`[P]` gradient of the forgotten rows' loss, as fitted."""
    spillover: Tensor
    """`[P]` of the remaining rows whose history held forgotten ones, as fitted less as without them."""
    sampled: list[RowLoss]
    """Remaining rows that stand for all."""
    scale: float
    """How many each stands for."""

    @classmethod
    def measure(
        cls,
        former: tuple[Fitted, Windows],
        tables: tuple[Fitted, Windows],
        config: RankerForgettingConfig,
        run: RunConfig,
        *,
        is_network: bool,
    ) -> Self:
        """Compute the change.

        Args:
            former: a fit, and what it was fitted on.
            tables: the same without the rows in its tables.
            config: how many rows the curvature is that of.
            run: the recipe.
            is_network: whether the encoder is updated, too.
        """
        complete, without = FitRows(*former, run), FitRows(*tables, run)
        names = [
            name
            for name, _ in without.ranker.named_parameters()
            if is_network or not name.startswith("encoder.")
        ]
        parameters = Parameters(without.ranker, names)
        in_former = {
            f"encoder.{name}": torch.from_numpy(rows)
            for name, rows in rows_by_table(former[0], tables[1]).items()
        }

        def gradient(fit: FitRows, index: I64, rows_by_name: dict[str, Tensor]) -> Tensor:
            losses = (RowLoss(fit, batch, parameters, rows_by_name) for batch in fit.batches(index))
            return total_gradient(losses, parameters.vector_P)

        gone, pairs = _gone_and_reached(former[1], tables[1])
        chosen = np.random.default_rng(run.seed).permutation(len(without.known))[: config.curvature_rows]
        return cls(
            parameters,
            gradient(complete, gone, in_former),
            gradient(complete, pairs[0], in_former) - gradient(without, pairs[1], {}),
            [RowLoss(without, batch, parameters, {}) for batch in without.batches(chosen)],
            len(without.known) / len(chosen),
        )

    def update(self, damping: float, config: RankerForgettingConfig, *, spillover: bool = True) -> Update:
        """Return the updated parameters; those that the removal does not reach are bit-identical.

        Args:
            damping: δ a remaining row.
            config: of the solver.
            spillover: whether it counts beside the forgotten rows.
        """
        fitted = self.parameters.vector_P
        change = self.forgotten + self.spillover if spillover else self.forgotten
        index = torch.nonzero(change)[:, 0]
        rows = self.scale * sum(len(loss.batch.watch_time) for loss in self.sampled)

        def remaining(selected: Tensor) -> Tensor:
            complete = fitted.index_copy(0, index, selected)
            return self.scale * torch.stack([loss(complete) for loss in self.sampled]).sum()

        found = influence_update(
            Removal(remaining, lambda selected: selected @ change[index]),
            fitted[index],
            curvature=lambda selected: gauss_newton(
                self.sampled, fitted.index_copy(0, index, selected), index, self.scale
            ),
            damping=damping * rows,
            tolerance=config.tolerance,
            max_iterations=config.max_iterations,
        )
        return found._replace(parameters=fitted.index_copy(0, index, found.parameters))

    def applied(self, ranker: Ranker, update: Update) -> Ranker:
        """Return a ranker with the updated parameters."""
        ranker = copy.deepcopy(ranker)
        with torch.no_grad():
            for name, value in self.parameters.split(update.parameters).items():
                ranker.get_parameter(name).copy_(value)
        return ranker.eval()


def _gone_and_reached(before: Windows, after: Windows) -> tuple[I64, tuple[I64, I64]]:
    """Return positions among the train rows: of the forgotten ones, and of remaining ones after a forgotten
    one of their user, before and after the removal."""
    gone = taken_out(before, after.dataset)
    counted: I64 = np.cumsum(gone) - gone
    reached = ~gone & (counted > counted[before.log.first_row()])
    left, aligned = np.flatnonzero(~gone), np.empty(len(after.log), np.int64)
    aligned[order_of_rows(after.log, np.arange(len(after.log)))] = left[order_of_rows(before.log, left)]
    known_after = np.flatnonzero(reached[aligned[after.known]])
    position = np.searchsorted(before.known, aligned[after.known][known_after])
    return np.flatnonzero(gone[before.known]), (position, known_after)
