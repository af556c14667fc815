"""The small parts under the heads: duration groups, mixture quantiles, pseudo-labels of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.ot import sinkhorn
from training.strata import DurationGroups
from training.watch_time._alignment import transport_labels
from training.watch_time._mixture import anchor_edges, mixture_quantiles, mixture_rank


def test_groups_hold_equal_shares_of_train() -> None:
    duration = np.random.default_rng(0).lognormal(3, 1, 5000).astype(np.float32)
    group = DurationGroups(10).fit(duration)(torch.from_numpy(duration))
    assert torch.bincount(group).tolist() == pytest.approx([500] * 10, abs=1)


def test_longer_videos_are_never_in_a_lower_group() -> None:
    groups = DurationGroups(4).fit(np.arange(1, 101, dtype=np.float32))
    assert (groups(torch.linspace(0.001, 1e6, 500)).diff() >= 0).all()


@pytest.mark.parametrize("duration", [[7.0] * 50, [5.0] * 90 + [10.0] * 10])
def test_repeated_durations_leave_groups_empty_not_broken(duration: list[float]) -> None:
    groups = DurationGroups(10).fit(np.array(duration, np.float32))
    got = groups(torch.tensor([0.1, *duration, 1e5]))
    assert got.min() == 0
    assert got.max() < 10


def law() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    weight = torch.rand(20, 6, generator=g, dtype=torch.float64).softmax(-1)
    return (
        weight,
        torch.rand(20, 1, generator=g, dtype=torch.float64),
        torch.rand(20, 6, generator=g).double(),
    )


def test_rank_undoes_the_quantile() -> None:
    weight, start, width = law()
    for level in (0.05, 0.37, 0.5, 0.99):
        ratio = mixture_quantiles(weight, start, width, (level,)).squeeze(-1)
        torch.testing.assert_close(
            mixture_rank(ratio, start, width, weight), torch.full((20,), level, dtype=torch.float64)
        )


def test_quantiles_agree_with_draws_from_the_mixture() -> None:
    weight, start, width = law()
    rng = np.random.default_rng(0)
    part = rng.choice(6, 200_000, p=weight[0].numpy())
    edges = start[0].numpy() + np.r_[0, width[0].cumsum(-1).numpy()]
    draws = edges[part] + rng.random(200_000) * width[0].numpy()[part]
    got = mixture_quantiles(weight[0], start[0], width[0], (0.1, 0.5, 0.9))
    np.testing.assert_allclose(got.numpy(), np.quantile(draws, [0.1, 0.5, 0.9]), atol=0.01)


def test_quantiles_survive_weights_of_zero() -> None:
    weight = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5]])
    got = mixture_quantiles(weight, torch.zeros(3, 1), torch.ones(3, 3), (0.1, 0.5, 0.9))
    assert got.isfinite().all()
    torch.testing.assert_close(got[0], torch.tensor([1.1, 1.5, 1.9]))
    torch.testing.assert_close(got[1], torch.tensor([0.1, 0.5, 0.9]))


def test_edges_lie_between_anchors() -> None:
    ratio = torch.tensor([[[0.0, 0.2], [0.4, 0.6], [0.8, 1.4]]])
    torch.testing.assert_close(anchor_edges(ratio), torch.tensor([[0.0, 0.3, 0.8, 1.4]]))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.rand(40, 5, generator=g, dtype=torch.float64), torch.randint(3, (40,), generator=g)


def test_pseudo_labels_are_each_groups_own_transport_problem() -> None:
    cost, group = batch()
    got = transport_labels(cost, group, 4, epsilon=0.05, kappa=0.1, iterations=500)
    for g in range(3):
        mine = cost[group == g]
        even = torch.full((len(mine),), 1 / len(mine), dtype=torch.float64)
        nu = torch.full((5,), 0.2, dtype=torch.float64)
        plan = sinkhorn(mine, even, nu, epsilon=0.05, kappa=0.1, iterations=500)
        torch.testing.assert_close(got[group == g], plan * len(mine), rtol=1e-2, atol=1e-3)


def test_pseudo_labels_are_rows_of_probabilities_without_a_gradient() -> None:
    cost, group = batch()
    got = transport_labels(cost.requires_grad_(), group, 3, epsilon=0.05, kappa=0.1, iterations=50)
    torch.testing.assert_close(got.sum(-1), torch.ones(40, dtype=torch.float64), rtol=0, atol=1e-8)
    assert not got.requires_grad


def test_without_a_price_pseudo_labels_are_a_softmax() -> None:
    cost, group = batch()
    got = transport_labels(cost, group, 3, epsilon=0.05, kappa=0.0, iterations=50)
    torch.testing.assert_close(got, (-cost / 0.05).softmax(-1), rtol=0, atol=1e-8)


def test_with_a_high_price_every_anchor_gets_its_even_share() -> None:
    cost, group = batch()
    got = transport_labels(cost, group, 3, epsilon=0.05, kappa=1e6, iterations=2000)
    for g in range(3):
        torch.testing.assert_close(
            got[group == g].mean(0), torch.full((5,), 0.2, dtype=torch.float64), rtol=0, atol=2e-4
        )
