"""The outer level: a table of labels whose recommender serves the platform's objectives best."""

# Shape suffixes: U users, C candidates (padded), T entries of the table; its axes are W, D and S.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from models.arrays import F32
from training.data import Interactions
from training.labelcraft._objectives import OBJECTIVES, Candidates, Objective
from training.labelcraft._soft_top_k import soft_top_k
from training.labelcraft._warm_start import LOW, RANGE
from training.labelcraft.closed_form._config import ClosedFormConfig
from training.labelcraft.closed_form._ridge import RidgeWindow
from training.labelcraft.closed_form._surface import LabelSurface, Sheet
from training.labels import Scale

_RANDOM_ORDERS: Final = 3
_LEAST_STEP: Final = 1e-3
"""Between neighbouring knots of the start, so that every step has a slope to grow by."""


@dataclass(frozen=True)
class LearnedSurface:
    """A table of labels, and how far it is from where it began."""

    label_maker: LabelSurface
    distance: float
    """Root mean square change of the labels of the log, in their deviations; level and scale are held."""
    curve: list[float]
    """Of the composite on the windows it was learned on, by step."""


class Composite:
    """The platform's objectives as one figure a user: `Σ_i M_i / (σ_i n)`.

    σ_i is the deviation of M_i over the users when slates are drawn at random, so that an objective counts by
    what can be made of it, not by its unit.

    Args:
        windows: the candidates of the users whose deviations these are.
        objectives: by name.
        k: size of the slate.
        seed: of the random orders.
    """

    def __init__(
        self, windows: Sequence[Candidates], objectives: Mapping[str, Objective], k: int, *, seed: int = 0
    ) -> None:
        self.k = k
        self.objectives = dict(objectives)
        random = torch.Generator().manual_seed(seed)
        orders = [
            (window, torch.rand(window.mask.shape, generator=random))
            for window in windows
            for _ in range(_RANDOM_ORDERS)
        ]
        self.deviations = {
            name: float(torch.cat([objective(self.slates(w, s), w) for w, s in orders]).std())
            for name, objective in objectives.items()
        }

    def of_slates(self, candidates: Candidates, slate_weight_UC: Tensor) -> Tensor:
        """Return `[U]`."""
        parts = [
            objective(slate_weight_UC, candidates) / max(self.deviations[name], 1e-9)
            for name, objective in self.objectives.items()
        ]
        return torch.stack(parts).mean(dim=0)

    def of_scores(self, candidates: Candidates, score_UC: Tensor) -> F32:
        """Return `[U]` of the k candidates with the highest scores."""
        composite: F32 = self.of_slates(candidates, self.slates(candidates, score_UC)).numpy()
        return composite

    def slates(self, candidates: Candidates, score_UC: Tensor) -> Tensor:
        """Return `[U, C]` 1/k at the k candidates with the highest scores, else 0."""
        masked = score_UC.masked_fill(~candidates.mask, -torch.inf)
        return torch.zeros_like(score_UC).scatter(1, masked.topk(self.k).indices, 1 / self.k)


def learn_surface(
    log: Interactions,
    windows: Sequence[RidgeWindow],
    surface: LabelSurface,
    config: ClosedFormConfig,
    *,
    objectives: Mapping[str, Objective] = OBJECTIVES,
    on_progress: Callable[[float], None] = lambda _: None,
) -> LearnedSurface:
    """Learn the table, in place.

    It begins at `0.2 + 0.3 (scale(w) + e)`. Rankings notice neither level nor scale of the labels, so both
    are held, over the log's rows; at the end the table is mapped to [0, 1]. No step is picked: the last
    ones are averaged.

    Args:
        log: rows whose labels have mean 0 and deviation 1 while learning.
        windows: see `ridge_windows`; to evaluate labels, leave out those that they are evaluated on.
        surface: whose knots are placed.
        config: hyperparameters.
        objectives: what the platform wants, by name.
        on_progress: called after each step with the share of the steps that are done.
    """
    weight_T = torch.from_numpy(np.asarray(surface.basis(log).mean(axis=0), np.float32).reshape(-1))
    composite = Composite([window.candidates for window in windows], objectives, config.k)
    start_WDS = _start(surface, log)
    parameters = _Monotone(start_WDS) if config.monotone else _Free(start_WDS)
    optimiser = torch.optim.Adam(parameters.parameters(), lr=config.learning_rate)
    begun_WDS = _standardised(parameters().detach(), weight_T)
    total_WDS, averaged = torch.zeros_like(begun_WDS), 0
    curve: list[float] = []
    for step in range(config.steps):
        table_WDS = _standardised(parameters(), weight_T)
        per_user = [_soft_composite(window, table_WDS, composite, config) for window in windows]
        value = torch.cat(per_user).mean()
        roughness = sum(table_WDS.diff(n=2, dim=axis).square().mean() for axis in (0, 1))
        optimiser.zero_grad()
        loss = config.smoothness * roughness - value
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimiser.step()
        curve.append(float(value.detach()))
        if step >= (1 - config.average) * config.steps:
            total_WDS += _standardised(parameters().detach(), weight_T)
            averaged += 1
        on_progress((step + 1) / config.steps)
    learned_WDS = total_WDS / averaged if averaged else begun_WDS
    distance = float((weight_T * (learned_WDS - begun_WDS).square().reshape(-1)).sum().sqrt())
    low, high = learned_WDS.min(), learned_WDS.max()
    surface.table.copy_((learned_WDS - low) / (high - low))
    return LearnedSurface(surface.eval(), distance, curve)


def _soft_composite(
    window: RidgeWindow, table_WDS: Tensor, composite: Composite, config: ClosedFormConfig
) -> Tensor:
    score_UC = window.scores(table_WDS, shuffle=config.shuffle)
    mask = window.candidates.mask
    with torch.no_grad():
        count_U1 = mask.sum(dim=1, keepdim=True)
        mean_U1 = (score_UC * mask).sum(dim=1, keepdim=True) / count_U1
        variance_U1 = ((score_UC - mean_U1).square() * mask).sum(dim=1, keepdim=True) / count_U1
        temperature_U = config.temperature * variance_U1[:, 0].sqrt().clamp_min(1e-6)
    alpha_UC = soft_top_k(score_UC, mask, config.k, temperature=temperature_U)
    return composite.of_slates(window.candidates, alpha_UC / config.k)


def _start(surface: LabelSurface, log: Interactions) -> Tensor:
    """Return the table of a row's own share of the objectives: see `warm_start`."""
    scale = Scale(name="watch time").fit(log.watch_time_s)
    start_WDS = torch.zeros_like(surface.table)
    start_WDS += LOW + RANGE / 2 * scale(surface.watch_knots_s())[:, None, None]
    start_WDS[..., Sheet.EXPLICIT] += RANGE / 2
    return start_WDS


def _standardised(table_WDS: Tensor, weight_T: Tensor) -> Tensor:
    """Return the table with which the log's labels have mean 0 and deviation 1 (nearly: of the knots)."""
    flat_T = table_WDS.reshape(-1)
    mean = (weight_T * flat_T).sum()
    deviation = (weight_T * (flat_T - mean).square()).sum().sqrt()
    return (table_WDS - mean) / deviation.clamp_min(1e-9)


class _Free(torch.nn.Module):
    """A table without any order."""

    def __init__(self, start_WDS: Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(start_WDS.clone())

    def forward(self) -> Tensor:
        return self.table


class _Monotone(torch.nn.Module):
    """A table in which more watched is never worse, explicit feedback never lowers a label, and any hate is
    below a skip: sums of steps that are above 0."""

    def __init__(self, start_WDS: Tensor) -> None:
        super().__init__()
        plain_WD, explicit_WD = start_WDS[..., Sheet.PLAIN], start_WDS[..., Sheet.EXPLICIT]
        hate_WD = torch.full_like(plain_WD, _LEAST_STEP)
        self.skip = torch.nn.Parameter(plain_WD[0].clone())
        self.watched = torch.nn.Parameter(_inverse_softplus(plain_WD.diff(dim=0)))
        self.liked = torch.nn.Parameter(_inverse_softplus(explicit_WD - plain_WD))
        self.hated = torch.nn.Parameter(_inverse_softplus(hate_WD))

    def forward(self) -> Tensor:
        none_1D = self.skip[None]
        plain_WD = torch.cat([none_1D, none_1D + softplus(self.watched).cumsum(dim=0)])
        explicit_WD = (plain_WD + softplus(self.liked)).cummax(dim=0).values
        hate_WD = none_1D - softplus(self.hated).flip(0).cumsum(dim=0).flip(0)
        return torch.stack([plain_WD, explicit_WD, hate_WD], dim=-1)


def _inverse_softplus(step: Tensor) -> Tensor:
    return torch.log(torch.expm1(step.clamp_min(_LEAST_STEP)))
