"""One state for each objective, mixed from experts: what goes together shares them."""

# Shape suffixes: D state, T objectives, S shared experts of all sides, E expert width.

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import Config
from training.rankers._outcomes import Side


class ObjectivesConfig(Config):
    """Hyperparameters of experts and GradCraft. No source gives them: chosen on the early-stop split."""

    expert: PositiveInt = 32
    """Width E of an expert, and of the state that an objective's head reads."""

    shared: PositiveInt = 2
    """Experts that all positive objectives share, and as many that the negative ones share."""

    tau: PositiveFloat = 0.1
    """τ of GradCraft, see `training.balance.GradCraft`."""

    epsilon: PositiveFloat = 1e-10
    """ε of GradCraft."""


class Mixture(NamedTuple):
    """What the experts say of some candidates, and how much each objective listens to each."""

    shared: Tensor
    """`[..., S, E]`"""
    own: Tensor
    """`[..., T, E]` of each objective's own expert."""
    gate: Tensor
    """`[..., T, S + 1]` shares: of the shared experts (0 for those of the other side), then of its own."""

    def state(self, t: int) -> Tensor:
        """`[..., E]` what objective `t` reads: Σ_e gate_te expert_e."""
        # A product of matrices would be one of its own for every candidate, each of a row.
        mixed = (self.gate[..., t, :-1, None] * self.shared).sum(self.shared.dim() - 2)
        return mixed + self.gate[..., t, -1:] * self.own[..., t, :]

    def readout(self, weight_TE: Tensor) -> Tensor:
        """`[..., T]` weight_t · state_t of every objective.

        A linear readout of a mixture is the mixture of its experts' readouts: the T states, which have no
        other reader, are never computed.
        """
        shared_TS = (self.shared @ weight_TE.T).transpose(-1, -2)
        # Axes are counted from the front: ONNX Runtime is wrong about the last one of nothing.
        last = self.own.dim() - 1
        own_T = (self.own * weight_TE).sum(last)
        return (self.gate[..., :-1] * shared_TS).sum(last) + self.gate[..., -1] * own_T


class Experts(nn.Module):
    """Progressive layered extraction of one level, with the sides apart.

        expert_e(h) = ReLU(W_e h + b_e)        gate_t(h) = softmax(V_t h) over its side's experts and its own
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

    closed: Tensor

    def __init__(self, width: int, sides: Sequence[Side], config: ObjectivesConfig) -> None:
        super().__init__()
        self._width, self._objectives = config.expert, len(sides)
        of = [side for side in ("positive", "negative") if side in sides for _ in range(config.shared)]
        self._shared = len(of)
        # All experts of a kind are one layer, and all gates another: three products instead of 2 T.
        self.shared = nn.Linear(width, self._shared * config.expert)
        self.own = nn.Linear(width, len(sides) * config.expert)
        self.gate = nn.Linear(width, len(sides) * (self._shared + 1))
        closed = [0.0 if side in (mine, None) else -torch.inf for mine in sides for side in (*of, None)]
        self.register_buffer("closed", torch.tensor(closed), persistent=False)

    def forward(self, state_D: Tensor) -> Mixture:
        """`[..., D]`, candidates -> what all objectives read of them."""
        lead = state_D.shape[:-1]
        state_RD = state_D.flatten(0, -2)  # of matrices, ONNX Runtime does layer and ReLU at once
        shared_SE, own_TE = F.relu(self.shared(state_RD)), F.relu(self.own(state_RD))
        gate = F.linear(state_RD, self.gate.weight, self.gate.bias + self.closed)
        # Sizes are spelled out: of a request without candidates nothing could be inferred.
        t, s, e = self._objectives, self._shared, self._width
        gate_TS = torch.softmax(gate.reshape(*lead, t, s + 1), dim=-1)
        return Mixture(shared_SE.reshape(*lead, s, e), own_TE.reshape(*lead, t, e), gate_TS)
