"""Probabilities that mean what they say, and what a score makes of them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fusion import fuse
from models.metrics import ece
from training.rankers import Platt


def test_platts_line_finds_the_line_that_was_planted() -> None:
    random = np.random.default_rng(0)
    logit = random.normal(-3, 1.5, (40_000, 2))
    truth = np.stack([0.5 * logit[:, 0] + 1.0, 2.0 * logit[:, 1] - 0.5], axis=1)
    happened = (random.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    platt = Platt(2)
    platt.fit(logit.astype(np.float32), happened)
    np.testing.assert_allclose(platt.slope, [0.5, 2.0], rtol=0.05)
    np.testing.assert_allclose(platt.shift, [1.0, -0.5], atol=0.1)
    raw, calibrated = (1 / (1 + np.exp(-x)) for x in (logit, platt(torch.from_numpy(logit)).numpy()))
    for t in range(2):
        before, after = ece(happened[:, t], raw[:, t]), ece(happened[:, t], calibrated[:, t])
        assert before is not None
        assert after is not None
        assert after < before / 4


@given(st.lists(st.booleans(), min_size=0, max_size=12), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_platts_line_rises_and_is_finite_on_any_rows(happened: list[bool], seed: int) -> None:
    logit = np.random.default_rng(seed).normal(0, 5, (len(happened), 1)).astype(np.float32)
    platt = Platt(1)
    platt.fit(logit, np.array(happened, np.float32)[:, None])
    assert 0.2 <= float(platt.slope) <= 5
    assert bool(torch.isfinite(platt.shift).all())
    if len(set(happened)) < 2:
        assert (float(platt.slope), float(platt.shift)) == (1.0, 0.0)


@given(st.integers(0, 1000), st.floats(0.1, 3))
@settings(max_examples=50, deadline=None)
def test_a_likelier_skip_lowers_the_score(seed: int, weight: float) -> None:
    random = np.random.default_rng(seed)
    values = {
        name: random.uniform(0.01, 0.9, 20).astype(np.float32) for name in ("watch_time", "like", "skip")
    }
    weights = {"watch_time": 1.0, "like": 0.5, "skip": -weight}
    score, parts = fuse(values, weights)
    likelier, _ = fuse(values | {"skip": values["skip"] * np.float32(1.1)}, weights)
    assert (likelier < score).all()
    assert (parts["skip"] >= 0).all()


@given(st.integers(0, 1000), st.floats(0, 2), st.floats(0.01, 4), st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_raising_a_weight_never_lowers_the_objective_in_the_first_k(
    seed: int, weight: float, more: float, k: int
) -> None:
    """On the mean of its logarithm, which is what the score is a sum of."""
    random = np.random.default_rng(seed)
    values = {name: random.uniform(1e-4, 1, 30).astype(np.float32) for name in ("watch_time", "like", "skip")}

    def first_k(like: float) -> float:
        score, _ = fuse(values, {"watch_time": 1.0, "skip": -0.5, "like": like})
        return float(np.log(values["like"][np.argsort(-score, kind="stable")[:k]]).mean())

    assert first_k(weight + more) >= first_k(weight) - 1e-5
