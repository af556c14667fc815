"""Proper scores of predicted distributions: by their definitions, and least where the prediction is true."""

# Shape suffixes: N rows, K values of a distribution.

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.arrays import F64
from models.errors import BadInput
from models.metrics import crps, distribution_report, mae_s, pinball


def crps_by_definition(weight_NK: F64, value_NK: F64, watched_N: F64) -> float:
    """∫ (F(x) - 1[x ≥ w])² dx, between the points where the integrand jumps."""
    scores = []
    for weight_K, value_K, watched in zip(weight_NK, value_NK, watched_N, strict=True):
        jumps = np.sort([*value_K, watched])
        below = [float(weight_K[value_K <= x].sum()) for x in jumps]
        step = [(f - (x >= watched)) ** 2 for f, x in zip(below, jumps, strict=True)]
        scores.append(float(np.array(step[:-1]) @ np.diff(jumps)))
    return float(np.mean(scores))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8), st.booleans())
def test_crps_is_the_distance_of_cumulative_distributions(seed: int, n: int, k: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    value_NK = np.asarray(rng.integers(0, 4, (n, k)) if ties else rng.exponential(20, (n, k)), np.float64)
    weight_NK = rng.dirichlet(np.ones(k), n)
    watched_N = np.asarray(rng.integers(0, 4, n) if ties else rng.exponential(20, n), np.float64)
    want = crps_by_definition(weight_NK, value_NK, watched_N)
    assert crps(weight_NK, value_NK, watched_N) == pytest.approx(want, abs=1e-9)


def test_crps_of_one_value_is_its_absolute_error() -> None:
    predicted_N, watched_N = np.array([10.0, 0.0, 5.0]), np.array([7.0, 4.0, 5.0])
    got = crps(np.ones((3, 1)), predicted_N[:, None], watched_N)
    assert got == pytest.approx(mae_s(predicted_N, watched_N))


def test_crps_is_least_at_the_true_distribution() -> None:
    rng = np.random.default_rng(0)
    value_K, true_K = np.array([1.0, 10.0, 20.0, 60.0]), np.array([0.5, 0.2, 0.2, 0.1])
    watched_N = rng.choice(value_K, 20_000, p=true_K)
    value_NK = np.broadcast_to(value_K, (len(watched_N), 4))

    def score(weight_K: F64) -> float:
        mean = crps(np.broadcast_to(weight_K, value_NK.shape), value_NK, watched_N)
        assert mean is not None
        return mean

    others = [0.8 * true_K + 0.2 * other_K for other_K in np.eye(4)]
    assert score(true_K) < min(map(score, others))


@given(st.sampled_from((0.1, 0.5, 0.9)), st.integers(0, 99))
def test_the_pinball_loss_is_least_at_the_quantile(level: float, seed: int) -> None:
    watched_N = np.random.default_rng(seed).exponential(20, 1001)
    constants = np.quantile(watched_N, level) + np.array([0.0, -2.0, 2.0])
    losses = [pinball(np.full(1001, c), watched_N, level) for c in constants]
    assert all(loss is not None for loss in losses)
    assert losses[0] == min(loss for loss in losses if loss is not None)


def test_the_pinball_loss_at_a_half_is_half_the_absolute_error() -> None:
    predicted_N, watched_N = np.array([10.0, 0.0, 5.0]), np.array([7.0, 4.0, 5.0])
    assert pinball(predicted_N, watched_N, 0.5) == pytest.approx(np.abs(predicted_N - watched_N).mean() / 2)


def test_no_rows_no_score() -> None:
    assert crps(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0)) is None
    assert pinball(np.zeros(0), np.zeros(0), 0.1) is None


def test_a_diverged_distribution_is_refused() -> None:
    one_NK = np.ones((2, 1))
    with pytest.raises(BadInput, match="`value_s` must be finite: 1 of 2"):
        crps(one_NK, np.array([[1.0], [np.nan]]), np.ones(2))
    with pytest.raises(BadInput, match="`quantile_s` must be finite: 1 of 2"):
        pinball(np.array([np.inf, 1.0]), np.ones(2), 0.5)
    with pytest.raises(ValueError, match="with one N"):
        crps(one_NK, one_NK, np.ones(3))


def test_a_report_of_the_true_distribution_is_calibrated() -> None:
    """Uniform on [0, 40] s, of videos of 10 s and of 30 s."""
    rng = np.random.default_rng(0)
    n = 20_000
    watched_N, duration_N = rng.uniform(0, 40, n), rng.choice([10.0, 30.0], n)
    value_K = (np.arange(400) + 0.5) / 10
    state_N3 = np.stack([np.full(n, 3 / 40), 0.04 * duration_N / 40, 1 - 1.02 * duration_N / 40], axis=1)
    found = distribution_report(
        watch_time_s=watched_N,
        duration_s=duration_N,
        weight_NK=np.full((n, 400), 1 / 400),
        value_s_NK=np.broadcast_to(value_K, (n, 400)),
        quantile_s_N3=np.broadcast_to([4.0, 20.0, 36.0], (n, 3)),
        expected_s=np.full(n, 20.0),
        state_N3=state_N3,
    )
    assert found["rmse_mean_s"] == pytest.approx(40 / np.sqrt(12), rel=0.02)
    assert found["crps_s"] == pytest.approx(40 / 6, rel=0.02)
    assert found["coverage_p10_p90"] == pytest.approx(0.8, abs=0.01)
    assert found["pinball_p50_s"] == pytest.approx(5, rel=0.02)
    for name, atol in {"bias_mean_s": 0.3, "bias_mean_s.duration_10": 0.3, "ece_skip": 0.01}.items():
        assert found[name] == pytest.approx(0, abs=atol)
    for name in ("ece_complete", "ece_replay"):
        assert found[name] == pytest.approx(0, abs=0.02)
    assert found["bias_mean_s.duration_20"] == pytest.approx(0, abs=0.4)
    assert found["bias_mean_s.duration_80"] is None


def test_a_report_of_no_rows_has_every_figure() -> None:
    none, nothing = np.zeros(0), np.zeros((0, 3))
    found = distribution_report(
        watch_time_s=none,
        duration_s=none,
        weight_NK=nothing,
        value_s_NK=nothing,
        quantile_s_N3=nothing,
        expected_s=none,
        state_N3=nothing,
    )
    assert set(found.values()) == {None}
