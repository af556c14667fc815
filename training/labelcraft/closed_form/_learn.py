"""The outer level: a table of labels whose recommender serves the platform's objectives best."""

# Shape suffixes: U users, C candidates (padded), O objectives, P pairs of a draw and a user, R held-out rows
# of all windows, T entries of the table; its axes are W, D and S, with B for a table a draw of the users.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from models.arrays import F32, I64
from models.errors import BadInput
from training.data import Interactions, LikesHates
from training.labelcraft._objectives import (
    OBJECTIVES,
    RELATIVE_OBJECTIVES,
    Candidates,
    Objective,
    next_day_return,
)
from training.labelcraft._soft_top_k import soft_top_k
from training.labelcraft._warm_start import LOW, RANGE
from training.labelcraft.closed_form._config import ClosedFormConfig
from training.labelcraft.closed_form._drawn_users import DrawnUsers, draw_users
from training.labelcraft.closed_form._likes_above_hates import LikesHatesObjective
from training.labelcraft.closed_form._ridge import RidgeWindow, ridge_windows
from training.labelcraft.closed_form._surface import LabelSurface, Sheet
from training.labels import Scale

_RANDOM_ORDERS: Final = 3
_LEAST_DEVIATION: Final = 1e-6
"""Of an objective over users; what is below it is rounding."""
_LEAST_STEP: Final = 1e-3
"""Between neighbouring knots of the start, so that every step has a slope to grow by."""
_OBJECTIVES: Final = {"relative": RELATIVE_OBJECTIVES, "paper": OBJECTIVES}


@dataclass(frozen=True)
class LearnedSurface:
    """A table of labels, and how far it is from where it began."""

    label_maker: LabelSurface
    distance: float
    """Root mean square change of the labels of the log, in their deviations; level and scale are held."""
    curve: list[float]
    """Of the composite on the windows it was learned on, by step: the mean over the draws of their users."""
    left_out: tuple[str, ...]
    """Objectives that are the same of all slates of these windows, see `Composite`."""


def objectives_of(config: ClosedFormConfig, further: Sequence[Objective] = ()) -> dict[str, Objective]:
    """Return the objectives that a config names, and a caller's own by the names of their functions.

    Raises:
        BadInput: two have the same name.
    """
    objectives = dict(_OBJECTIVES[config.objectives])
    for objective in (*([next_day_return] if config.next_day_return else []), *further):
        name = getattr(objective, "__name__", repr(objective))
        if name in objectives:
            raise BadInput(f"two objectives are called {name!r}; give each function a name of its own.")
        objectives[name] = objective
    return objectives


def learn_labels(
    log: Interactions,
    day: I64,
    config: ClosedFormConfig | None = None,
    *,
    objectives: Mapping[str, Objective] | None = None,
    further: Sequence[Objective] = (),
    likes_hates: LikesHates | None = None,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> LearnedSurface:
    """Learn labels from a log: place the knots, fit the recommender of each window, and learn the table.

    Args:
        log: exposures; to evaluate labels, those before the days that they are evaluated on.
        day: `[N]` the day of each, see `day_numbers`.
        config: hyperparameters.
        objectives: what the platform wants, by name, instead of `objectives_of(config, further)`.
        further: objectives of one's own beside those of the config.
        likes_hates: see `learn_surface`.
        seed: of the draws of the held-out users, and of shuffled rows.
        on_progress: called after each step with the share of the steps that are done.

    Raises:
        BadInput: nothing was watched, all durations are equal, the log is too short for one window, no user
            has more than `k` exposures in any, no objective differs between slates, or two have one name.
    """
    config = config or ClosedFormConfig()
    surface = LabelSurface(config).fit(log)
    windows = ridge_windows(log, day, surface, config, seed=seed)
    return learn_surface(
        log,
        windows,
        surface,
        config,
        objectives=objectives or objectives_of(config, further),
        likes_hates=likes_hates,
        seed=seed,
        on_progress=on_progress,
    )


class Composite:
    """The platform's objectives as one figure a user: `Σ_i M_i / (σ_i n)`.

    σ_i is the deviation of M_i over the users when slates are drawn at random, so that an objective counts by
    what can be made of it, not by its unit. One without a deviation, the same of all slates, is left out.

    Args:
        windows: the candidates of the users whose deviations these are.
        objectives: by name.
        k: size of the slate.
        seed: of the random orders.

    Raises:
        BadInput: no objective is left.
    """

    def __init__(
        self, windows: Sequence[Candidates], objectives: Mapping[str, Objective], k: int, *, seed: int = 0
    ) -> None:
        self.k = k
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
        self.objectives = {n: o for n, o in objectives.items() if self.deviations[n] > _LEAST_DEVIATION}
        self.left_out = tuple(name for name in objectives if name not in self.objectives)
        if not self.objectives:
            raise BadInput(
                f"{', '.join(objectives)}: the same of all slates of {k}, so there is nothing to learn "
                "labels for; take a longer log, wider windows or other objectives."
            )

    def of_slates(self, candidates: Candidates, slate_weight_UC: Tensor) -> Tensor:
        """Return `[U]`."""
        return self.of_values(self.values(candidates, slate_weight_UC))

    def values(self, candidates: Candidates, slate_weight_UC: Tensor) -> Tensor:
        """Return `[O, U]` the objectives, in the order of `objectives`."""
        return torch.stack([objective(slate_weight_UC, candidates) for objective in self.objectives.values()])

    def of_values(self, value_OU: Tensor) -> Tensor:
        """Return the `[U]` composites of what `values` returned."""
        deviation_O = torch.tensor([self.deviations[name] for name in self.objectives], dtype=value_OU.dtype)
        return (value_OU / deviation_O[:, None]).mean(dim=0)

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
    objectives: Mapping[str, Objective] | None = None,
    likes_hates: LikesHates | None = None,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> LearnedSurface:
    """Learn the table, in place.

    It begins at `0.2 + 0.3 (scale(w) + e)`. Rankings notice neither level nor scale of the labels, so both
    are held, over the log's rows; at the end the table is mapped to [0, 1]. Unless `config.select` picks one,
    the last steps are averaged, and so are the tables of `config.redraws` draws of the windows' users.

    Args:
        log: rows whose labels have mean 0 and deviation 1 while learning.
        windows: see `ridge_windows`; to evaluate labels, leave out those that they are evaluated on.
        surface: whose knots are placed.
        config: hyperparameters.
        objectives: what the platform wants, by name, instead of `config.objectives`.
        likes_hates: exposures whose likes the labels shall put above the hates without seeing either, with
            `config.likes_hates_weight`. Only the learning half of their users is read.
        seed: of the draws.
        on_progress: called after each step with the share of the steps that are done.
    """
    weight_T = torch.from_numpy(np.asarray(surface.basis(log).mean(axis=0), np.float32).reshape(-1))
    composite = Composite(
        [window.candidates for window in windows], objectives or objectives_of(config), config.k
    )
    likes_above_hates = None if likes_hates is None else LikesHatesObjective(likes_hates.halves()[0], surface)
    drawn = draw_users(windows, config.redraws, seed=seed)
    start_WDS = _start(surface, log)
    parameters = (_Monotone if config.monotone else _Free)(start_WDS.expand(config.redraws, -1, -1, -1))
    optimiser = torch.optim.Adam(parameters.parameters(), lr=config.learning_rate)
    begun_BWDS = _standardised(parameters().detach(), weight_T)
    kept_BWDS, kept = torch.zeros_like(begun_BWDS), 0
    best_B = torch.full((config.redraws,), -torch.inf)
    curve: list[float] = []
    for step in range(config.steps):
        table_BWDS = _standardised(parameters(), weight_T)
        score_BR = torch.cat([window.scores_of_rows(table_BWDS.flatten(1)) for window in windows], dim=1)
        value_B = _soft_composites(drawn, score_BR, composite, config)
        goal_B = value_B
        if likes_above_hates is not None:
            goal_B = goal_B + config.likes_hates_weight * likes_above_hates(table_BWDS)
        roughness = sum(table_BWDS.diff(n=2, dim=a).square().mean(dim=(1, 2, 3)).sum() for a in (1, 2))
        optimiser.zero_grad()
        loss = config.smoothness * roughness - goal_B.sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimiser.step()
        curve.append(float(value_B.detach().mean()))
        if config.select:
            better_B, kept = value_B.detach() > best_B, 1
            best_B = torch.where(better_B, value_B.detach(), best_B)
            kept_BWDS = torch.where(better_B[:, None, None, None], table_BWDS.detach(), kept_BWDS)
        elif step >= min((1 - config.average) * config.steps, config.steps - 1):
            kept_BWDS += _standardised(parameters().detach(), weight_T)
            kept += 1
        on_progress((step + 1) / config.steps)
    learned_BWDS = kept_BWDS if kept else begun_BWDS
    learned_WDS = _standardised(learned_BWDS.mean(dim=0, keepdim=True), weight_T)[0]
    distance = float((weight_T * (learned_WDS - begun_BWDS[0]).square().reshape(-1)).sum().sqrt())
    low, high = learned_WDS.min(), learned_WDS.max()
    surface.table.copy_((learned_WDS - low) / (high - low))
    return LearnedSurface(surface.eval(), distance, curve, composite.left_out)


def _soft_composites(
    drawn: Sequence[DrawnUsers], score_BR: Tensor, composite: Composite, config: ClosedFormConfig
) -> Tensor:
    """Return `[B]` each draw's mean composite."""
    value_B = torch.zeros(len(score_BR))
    for users in drawn:
        score_PC, mask_PC = users.scores(score_BR), users.candidates.mask
        with torch.no_grad():
            count_P1 = mask_PC.sum(dim=1, keepdim=True)
            mean_P1 = (score_PC * mask_PC).sum(dim=1, keepdim=True) / count_P1
            variance_P1 = ((score_PC - mean_P1).square() * mask_PC).sum(dim=1, keepdim=True) / count_P1
            temperature_P = config.temperature * variance_P1[:, 0].sqrt().clamp_min(1e-6)
        alpha_PC = soft_top_k(score_PC, mask_PC, config.k, temperature=temperature_P)
        composite_P = composite.of_slates(users.candidates, alpha_PC / config.k)
        value_B = value_B.index_add(0, users.draw[:, 0], users.weight * composite_P)
    return value_B


def _start(surface: LabelSurface, log: Interactions) -> Tensor:
    """Return the table of a row's own share of the objectives: see `warm_start`."""
    scale = Scale(name="watch time").fit(log.watch_time_s)
    start_WDS = torch.zeros_like(surface.table)
    start_WDS += LOW + RANGE / 2 * scale(surface.watch_knots_s())[:, None, None]
    start_WDS[..., Sheet.EXPLICIT] += RANGE / 2
    return start_WDS


def _standardised(table_BWDS: Tensor, weight_T: Tensor) -> Tensor:
    """Return tables with which the log's labels have mean 0 and deviation 1 (nearly: of the knots)."""
    flat_BT = table_BWDS.flatten(1)
    centred_BT = flat_BT - (weight_T * flat_BT).sum(dim=1, keepdim=True)
    deviation_B1 = (weight_T * centred_BT.square()).sum(dim=1, keepdim=True).sqrt()
    return (centred_BT / deviation_B1.clamp_min(1e-9)).reshape(table_BWDS.shape)


class _Free(torch.nn.Module):
    """Tables without any order."""

    def __init__(self, start_BWDS: Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(start_BWDS.clone())

    def forward(self) -> Tensor:
        return self.table


class _Monotone(torch.nn.Module):
    """Tables in which more watched is never worse, explicit feedback never lowers a label, and any hate is
    below a skip: sums of steps that are above 0."""

    def __init__(self, start_BWDS: Tensor) -> None:
        super().__init__()
        plain_BWD, explicit_BWD = start_BWDS[..., Sheet.PLAIN], start_BWDS[..., Sheet.EXPLICIT]
        hate_BWD = torch.full_like(plain_BWD, _LEAST_STEP)
        self.skip = torch.nn.Parameter(plain_BWD[:, :1].clone())
        self.watched = torch.nn.Parameter(_inverse_softplus(plain_BWD.diff(dim=1)))
        self.liked = torch.nn.Parameter(_inverse_softplus(explicit_BWD - plain_BWD))
        self.hated = torch.nn.Parameter(_inverse_softplus(hate_BWD))

    def forward(self) -> Tensor:
        plain_BWD = torch.cat([self.skip, self.skip + softplus(self.watched).cumsum(dim=1)], dim=1)
        explicit_BWD = (plain_BWD + softplus(self.liked)).cummax(dim=1).values
        hate_BWD = self.skip - softplus(self.hated).flip(1).cumsum(dim=1).flip(1)
        return torch.stack([plain_BWD, explicit_BWD, hate_BWD], dim=-1)


def _inverse_softplus(step: Tensor) -> Tensor:
    return torch.log(torch.expm1(step.clamp_min(_LEAST_STEP)))
