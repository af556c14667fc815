"""What every watch-time head promises, as named properties, and the logs they are shown on."""

# Shape suffixes: N exposures, D state.

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from models.features import FEEDBACK_COLUMNS
from training.data import Interactions
from training.watch_time import DistributionHead, Head

STATE = 16
"""Width of the states made here."""


def log_of(watch_time_s: npt.ArrayLike, duration_s: npt.ArrayLike) -> Interactions:
    """A log of one user who watched these videos one after another."""
    watch = np.asarray(watch_time_s, np.float32)
    n = len(watch)
    feedback = np.zeros((n, len(FEEDBACK_COLUMNS)), np.float32)
    feedback[:, 0], feedback[:, 1] = watch, np.asarray(duration_s, np.float32)
    return Interactions(
        user=np.zeros(n, np.int64),
        ids=np.full((n, 4), 2, np.int64),
        timestamp_ms=np.arange(n, dtype=np.int64),
        feedback=feedback,
        user_ids=("u",),
        profile=np.zeros((1, 0), np.float32),
        profile_ids=np.zeros((1, 0), np.int64),
    )


def heavy_tailed_log(n: int = 600, seed: int = 0) -> Interactions:
    """Durations of 5 to 300 s, and ratios with many skips, some whole watches and a few replays."""
    rng = np.random.default_rng(seed)
    duration = np.exp(rng.normal(3.5, 0.9, n)).clip(5, 300)
    ratio = rng.choice([0.03, 0.5, 1.0, 2.0], n, p=[0.5, 0.2, 0.25, 0.05]) * rng.uniform(0.9, 1.1, n)
    return log_of(ratio * duration, duration)


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
        out = (self.head.seconds(state, duration),)
        if not isinstance(self.head, DistributionHead):
            return out
        weights, ratio = self.head.distribution(state, duration)
        return (*out, weights, ratio, self.head.quantiles_s(state, duration))


def served(head: Head, state: Tensor, duration: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        out: tuple[Tensor, ...] = Served(head).eval()(state, duration)
    return out


def assert_answers_finite_seconds(head: Head) -> None:
    """`[..., D]` and `[...]` -> `[...]` finite seconds, never negative, for any leading dims."""
    for shape in ((0,), (1,), (7,), (2, 5)):
        seconds = served(head, *states(*shape))[0]
        assert seconds.shape == shape
        assert seconds.isfinite().all()
        assert (seconds >= 0).all()


def assert_rows_do_not_see_each_other(head: Head) -> None:
    """One candidate or a thousand: the same prediction, and in any order."""
    state, duration = states(1000)
    whole = served(head, state, duration)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(1))
    for got, want in zip(served(head, state[order], duration[order]), whole, strict=True):
        torch.testing.assert_close(got, want[order], rtol=1e-5, atol=1e-6)
    for row in (0, 1, 500):
        alone = served(head, state[row : row + 1], duration[row : row + 1])
        for got, want in zip(alone, whole, strict=True):
            torch.testing.assert_close(got, want[row : row + 1], rtol=1e-5, atol=1e-6)


def assert_is_a_distribution(head: DistributionHead) -> None:
    """Weights sum to 1, ratios ascend, quantiles do not cross and are finite seconds ≥ 0."""
    state, duration = states(400)
    _, weights, ratio, quantiles = served(head, state, duration)
    torch.testing.assert_close(weights.sum(-1), torch.ones(400))
    assert (weights >= 0).all()
    assert (ratio >= 0).all()
    assert (ratio.diff(dim=-1) >= 0).all()
    assert quantiles.shape == (400, 3)
    assert quantiles.isfinite().all()
    assert (quantiles >= 0).all()
    assert (quantiles.diff(dim=-1) >= 0).all()


def assert_onnx_agrees_with_torch(head: Head, folder: Path) -> None:
    """One export with free leading dims answers N = 0, 1 and 7 as torch does."""
    net = Served(head).eval()
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    path = folder / "head.onnx"
    with pytest.warns():  # the exporter's own deprecations
        program = torch.onnx.export(
            net, states(2, 3), dynamo=True, opset_version=18, dynamic_shapes=(free, free), verbose=False
        )
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path)
    names = [i.name for i in session.get_inputs()]
    for n in (0, 1, 7):
        state, duration = states(1, n, seed=n)
        feed = {k: v.numpy() for k, v in zip(names, (state, duration), strict=False)}
        for got, want in zip(session.run(None, feed), served(head, state, duration), strict=True):
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-5, atol=1e-5)


def assert_survives_a_round_trip(fitted: Head, fresh: Head) -> None:
    """State dict into a head that never saw the data: the same answers."""
    assert isinstance(fitted, nn.Module)
    assert isinstance(fresh, nn.Module)
    fresh.load_state_dict(fitted.state_dict())
    for got, want in zip(served(fresh, *states(50)), served(fitted, *states(50)), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def assert_refuses_to_learn_before_its_tables(head: Head) -> None:
    state, duration = states(4)
    with pytest.raises(ValueError, match="call `fit_tables` first"):
        head.loss(state, duration, duration)
    with pytest.raises(ValueError, match="no rows"):
        head.fit_tables(log_of([], []), seed=0)
