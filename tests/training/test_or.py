"""OR: its order, its restoration, and data with proportional odds."""

# Shape suffixes: N exposures, M thresholds.

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training import _watch_time_asserts as wt
from tests.training._builders import watch_log
from training.watch_time import OR, ORConfig


def fitted(config: ORConfig | None = None) -> OR:
    torch.manual_seed(0)
    return OR(wt.STATE, config).fit_tables(wt.heavy_tailed_log(), seed=0)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), spread=st.floats(0, 50))
def test_the_biases_ascend_and_so_the_probabilities_fall_whatever_was_learned(
    seed: int, spread: float
) -> None:
    torch.manual_seed(seed)
    head = OR(wt.STATE, ORConfig(thresholds=9))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=spread)
    assert (head.bias.diff() >= 0).all()
    # 1e-6 is what a vectorised sigmoid may round two equal logits apart.
    assert (head.above(wt.states(20, seed=seed)[0]).diff(dim=-1) <= 1e-6).all()


def test_before_learning_it_predicts_the_distribution_of_all_rows() -> None:
    head = fitted(ORConfig(hidden=0))
    with torch.no_grad():
        for parameter in head.net.parameters():
            parameter.zero_()
    watch = wt.heavy_tailed_log().watch_time_s
    got = head.quantiles_s(torch.zeros(1, wt.STATE), torch.ones(1))[0].detach().numpy()
    np.testing.assert_allclose(got, np.quantile(watch, [0.1, 0.5, 0.9]), rtol=0.1, atol=0.2)


def test_certain_answers_restore_the_largest_threshold_below() -> None:
    head = fitted()
    edge = head.parts.edge_s.numpy()
    watch = np.linspace(0.01, edge[-2], 500, dtype=np.float32)
    got = head.parts.restore(head.parts.is_above(torch.from_numpy(watch))).numpy()
    at = np.searchsorted(edge, watch, side="left") - 1
    np.testing.assert_allclose(got, edge[at], rtol=1e-4, atol=1e-3)
    assert (np.abs(got - watch) <= np.diff(edge)[at] + 1e-3).all()


def test_beyond_the_last_threshold_the_mean_of_those_rows_is_restored() -> None:
    head = fitted()
    watch = wt.heavy_tailed_log().watch_time_s
    beyond = watch[watch > float(head.parts.edge_s[-2])]
    assert float(head.parts.restore(torch.ones(1, 50))) == pytest.approx(beyond.mean(), rel=1e-4)


def test_learns_the_quantiles_of_data_with_proportional_odds() -> None:
    """log w = x + logistic noise is what one score with a bias for each threshold can say exactly."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    noise = rng.logistic(scale=0.5, size=3000)
    watch = torch.from_numpy(np.exp(2 + x + noise).astype(np.float32))
    state, duration = torch.from_numpy(x.astype(np.float32))[:, None], torch.full((3000,), 60.0)
    head = OR(1, ORConfig(hidden=0)).fit_tables(watch_log(watch.numpy(), duration.numpy()), seed=0)
    wt.fit_exactly(head, state, duration, watch)
    assert isinstance(head.net, torch.nn.Linear)
    assert float(head.net.weight.detach()) == pytest.approx(1 / 0.5, rel=0.1)
    quantiles = head.quantiles_s(state, duration).detach()
    covered = (watch[:, None] <= quantiles).float().mean(0)
    torch.testing.assert_close(covered, torch.tensor([0.1, 0.5, 0.9]), rtol=0, atol=0.02)
    middle = np.abs(x) < 1
    np.testing.assert_allclose(quantiles[middle, 1].log().numpy(), 2 + x[middle], atol=0.15)
