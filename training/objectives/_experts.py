"""One state for each objective, mixed from experts: what goes together shares them."""

# Shape suffixes: D state, T objectives, M experts, S shared experts of a side, E expert width.

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import Config
from training.objectives._outcomes import Side


class ObjectivesConfig(Config):
    """Knobs of the multi-objective prediction. No source gives them: chosen on the early-stop split."""

    expert: PositiveInt = 48
    """Width E of an expert, and of the state that an objective's head reads."""

    shared: PositiveInt = 2
    """Experts that all positive objectives share, and as many that the negative ones share."""

    tau: PositiveFloat = 0.1
    """τ of GradCraft, see `training.balance.GradCraft`."""

    epsilon: PositiveFloat = 1e-10
    """ε of GradCraft."""


class Experts(nn.Module):
    """Progressive layered extraction of one level, with the sides apart.

        expert_e(h) = GELU(W_e h + b_e)        gate_t(h) = softmax(V_t h) over its side's experts and its own
        state_t = Σ_e gate_te expert_e(h)

    Every objective has one expert of its own, and each side (`positive`, `negative`) some that its objectives
    share: a skip learns nothing through an expert that a long view trains, and the other way round. What both
    sides have in common is the encoder before.

    Source: PLE, Tang et al., RecSys 2020; the sides after "Learning and Optimization of Implicit Negative
    Feedback…", arXiv 2308.13249, whose abstract gives no layout.

    Args:
        width: D of the state that comes in.
        sides: of each of the T objectives.
        config: sizes.
    """

    def __init__(self, width: int, sides: Sequence[Side], config: ObjectivesConfig) -> None:
        super().__init__()
        self.width = config.expert
        self._shared = config.shared
        # Objectives in the order that they lie in here, and back.
        self._of_side = [[t for t, s in enumerate(sides) if s == side] for side in ("positive", "negative")]
        self._of_side = [mine for mine in self._of_side if mine]
        inside = [t for mine in self._of_side for t in mine]
        self._place = [inside.index(t) for t in range(len(sides))]
        self._count = sum(config.shared + len(mine) for mine in self._of_side)
        # All experts are one layer, and all gates another: two products instead of 2 T.
        self.expert = nn.Linear(width, self._count * config.expert)
        self.gate = nn.Linear(width, len(sides) * (config.shared + 1))

    def forward(self, state_D: Tensor) -> list[Tensor]:
        """`[..., D]` -> T times `[..., E]`, in the order of the objectives."""
        lead, s = state_D.shape[:-1], self._shared
        # Sizes are spelled out: of a request without candidates nothing could be inferred.
        expert_ME = F.gelu(self.expert(state_D)).reshape(*lead, self._count, self.width)
        gate_TS = torch.softmax(self.gate(state_D).reshape(*lead, len(self._place), s + 1), dim=-1)
        out: list[Tensor] = []
        start = at = 0
        for mine in self._of_side:
            shared_SE = expert_ME[..., start : start + s, :]
            own_TE = expert_ME[..., start + s : start + s + len(mine), :]
            mine_TS = gate_TS[..., at : at + len(mine), :]
            mixed_TE = mine_TS[..., :s] @ shared_SE + mine_TS[..., s:] * own_TE
            out += [mixed_TE[..., t, :] for t in range(len(mine))]
            start, at = start + s + len(mine), at + len(mine)
        return [out[place] for place in self._place]
