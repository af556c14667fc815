"""The small parts under the heads: duration groups, mixture quantiles, pseudo-labels of a batch, parts of the
watch time; and that heads are of one size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arrays import F32
from tests.training import _watch_time_asserts as wt
from training.lda import sinkhorn
from training.lda._tables import anchor_edges
from training.lda._transport_plan import transport_plan
from training.strata import DurationGroups
from training.watch_time import CREAD, CWM, OR, TPM, VR, WLR, D2QSeconds
from training.watch_time._mixture import mixture_quantiles, mixture_rank
from training.watch_time._parts import Parts, weights_from_above


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
    got = transport_plan(cost, group, 4, epsilon=0.05, kappa=0.1, iterations=500)
    for g in range(3):
        mine = cost[group == g]
        even = torch.full((len(mine),), 1 / len(mine), dtype=torch.float64)
        nu = torch.full((5,), 0.2, dtype=torch.float64)
        plan = sinkhorn(mine, even, nu, epsilon=0.05, kappa=0.1, iterations=500)
        torch.testing.assert_close(got[group == g], plan * len(mine), rtol=1e-2, atol=1e-3)


def test_pseudo_labels_are_rows_of_probabilities_without_a_gradient() -> None:
    cost, group = batch()
    got = transport_plan(cost.requires_grad_(), group, 3, epsilon=0.05, kappa=0.1, iterations=50)
    torch.testing.assert_close(got.sum(-1), torch.ones(40, dtype=torch.float64), rtol=0, atol=1e-8)
    assert not got.requires_grad


def test_without_a_price_pseudo_labels_are_a_softmax() -> None:
    cost, group = batch()
    got = transport_plan(cost, group, 3, epsilon=0.05, kappa=0.0, iterations=50)
    torch.testing.assert_close(got, (-cost / 0.05).softmax(-1), rtol=0, atol=1e-8)


def test_with_a_high_price_every_anchor_gets_its_even_share() -> None:
    cost, group = batch()
    got = transport_plan(cost, group, 3, epsilon=0.05, kappa=1e6, iterations=2000)
    for g in range(3):
        torch.testing.assert_close(
            got[group == g].mean(0), torch.full((5,), 0.2, dtype=torch.float64), rtol=0, atol=2e-4
        )


# --- parts of the watch time


def lognormal(n: int = 5000) -> F32:
    return np.random.default_rng(0).lognormal(2, 1, n).astype(np.float32)


def test_parts_hold_the_shares_they_were_cut_at_and_the_last_has_the_mean_of_its_rows() -> None:
    watch = lognormal()
    parts = Parts(4).fit(watch, np.array([0.5, 0.75, 0.9]))
    part = parts.part(torch.from_numpy(watch))
    assert (torch.bincount(part) / 5000).tolist() == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=1e-3)
    assert float(parts.midpoint_s[-1]) == pytest.approx(watch[part.numpy() == 3].mean(), rel=1e-5)
    assert parts.edge_s[0] == 0


@settings(max_examples=40)
@given(
    watch=st.lists(st.sampled_from([0.0, 1.0, 7.0, 7.5, 300.0]), min_size=1, max_size=30),
    parts=st.integers(2, 9),
)
def test_parts_of_tied_watch_times_are_empty_and_not_broken(watch: list[float], parts: int) -> None:
    found = Parts(parts).fit(np.array(watch, np.float32), np.arange(1, parts) / parts)
    assert found.fitted
    assert (found.edge_s.diff() >= 0).all()
    value = torch.tensor([*watch, 0.0, 1e4])
    torch.testing.assert_close(found.is_above(value).sum(1).long(), found.part(value))


def test_shares_above_are_the_weights_of_the_parts_and_give_back_quantiles_and_mean() -> None:
    watch = lognormal()
    parts = Parts(101).fit(watch, np.arange(1, 101) / 101)
    above = parts.is_above(torch.from_numpy(watch)).mean(0, keepdim=True)
    weight = weights_from_above(above)
    torch.testing.assert_close(weight.sum(), torch.tensor(1.0))
    found = parts.predict(weight, torch.tensor([10.0]), None)
    np.testing.assert_allclose(found.quantiles_s[0].numpy(), np.quantile(watch, [0.1, 0.5, 0.9]), rtol=0.01)
    torch.testing.assert_close(found.seconds, found.quantiles_s[:, 1])
    assert float((weight * found.ratio * 10).sum()) == pytest.approx(watch.mean(), rel=0.01)
    missed = float((weight[0] * parts.edge_s.diff()).sum())  # by a lower sum, at most
    assert watch.mean() - missed < float(parts.restore(above)) < watch.mean()


@pytest.mark.parametrize("head", [VR, WLR, D2QSeconds, OR, CWM, TPM, CREAD])
def test_heads_have_the_same_layer_before_their_outputs(head: type[VR]) -> None:
    """Else a comparison of heads would compare sizes."""
    layers = [m for m in head(wt.STATE).modules() if isinstance(m, torch.nn.Linear)]
    assert [layer.weight.shape[1] for layer in layers] == [wt.STATE, 64]
