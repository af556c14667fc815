"""Logs and states that watch-time heads are tested on, and what of a head is served."""

# Shape suffixes: N exposures, D state.

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tests.training._builders import watch_log
from training.data import Interactions
from training.watch_time import DistributionHead, Head, Prediction

STATE = 16
"""Width of the states made here."""
TINY_LDA = {"groups": 3, "dim": 16, "anchors": {"anchors": 8, "code_dim": 8, "sequences": 256, "epochs": 4}}
"""Options of an LDA whose anchors are fitted in no time."""


def heavy_tailed_log(n: int = 600, seed: int = 0) -> Interactions:
    """Durations of 5 to 300 s, and ratios with many skips, some whole watches and a few replays."""
    rng = np.random.default_rng(seed)
    duration = np.exp(rng.normal(3.5, 0.9, n)).clip(5, 300)
    ratio = rng.choice([0.03, 0.5, 1.0, 2.0], n, p=[0.5, 0.2, 0.25, 0.05]) * rng.uniform(0.9, 1.1, n)
    return watch_log(ratio * duration, duration)


def states(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """States `[*shape, D]` and durations `[*shape]`, extreme ones among them."""
    g = torch.Generator().manual_seed(seed)
    duration = torch.rand(shape, generator=g) * 300 + 1
    flat = duration.view(-1)
    extremes = torch.tensor([0.01, 86_400.0])[: len(flat)]
    flat[: len(extremes)] = extremes
    return torch.randn(*shape, STATE, generator=g) * 3, duration


def fit_exactly(head: Head, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> None:
    """Bring a head with a convex loss to its optimum."""
    assert isinstance(head, nn.Module)
    lbfgs = torch.optim.LBFGS(
        head.parameters(), max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        lbfgs.zero_grad()
        loss = head.loss(state_ND, duration_N, watch_time_N)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    lbfgs.step(closure)  # type: ignore[no-untyped-call]


class Served(nn.Module):
    """What of a head goes into the ranker's graph."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, state: Tensor, duration: Tensor) -> tuple[Tensor, ...]:
        if not isinstance(self.head, DistributionHead):
            return (self.head.seconds(state, duration),)
        return tuple(self.head.predict(state, duration))


def served(head: Head, state: Tensor, duration: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        out: tuple[Tensor, ...] = Served(head).eval()(state, duration)
    return out


def assert_is_a_distribution(head: DistributionHead) -> None:
    """Weights sum to 1, ratios ascend, quantiles do not cross and are finite seconds ≥ 0; states exclude each
    other."""
    state, duration = states(400)
    found = Prediction(*served(head, state, duration))
    weights, ratio, quantiles = found.weights, found.ratio, found.quantiles_s
    torch.testing.assert_close(weights.sum(-1), torch.ones(400))
    assert (weights >= 0).all()
    assert (ratio >= 0).all()
    assert (ratio.diff(dim=-1) >= 0).all()
    assert quantiles.shape == (400, 3)
    assert quantiles.isfinite().all()
    assert (quantiles >= 0).all()
    assert (quantiles.diff(dim=-1) >= 0).all()
    assert (found.states >= 0).all()
    assert (found.states.sum(-1) <= 1 + 1e-5).all()
