"""The small parts under the heads: duration groups, mixture quantiles, pseudo-labels of a batch, parts of the
watch time; and that heads are of one size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arrays import F32
from models.metrics import crps, watch_states
from tests.training import _watch_time_asserts as wt
from training.lda import sinkhorn
from training.lda._tables import anchor_edges
from training.lda._transport_plan import transport_plan
from training.strata import DurationGroups
from training.watch_time import CREAD, CWM, OR, TPM, VR, WLR, D2QSeconds
from training.watch_time._mixture import (
    mixture_crps,
    mixture_quantiles,
    mixture_rank,
    state_edges,
    state_loss,
    state_probabilities,
)
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


def test_the_ranked_probability_score_is_the_distance_to_a_step() -> None:
    """∫ (F(x) - 1[x ≥ r])² dx on a fine grid, r within the parts and beyond either end."""
    weight, start, width = law()
    end = start + width.sum(-1, keepdim=True)
    ratio = torch.cat([start - 0.3, start + 0.41 * (end - start), end + 0.7], -1)
    grid = torch.linspace(-0.5, 8.0, 170_001, dtype=torch.float64)
    for row in range(3):
        rank = mixture_rank(grid, start[row], width[row], weight[row])
        for r in ratio[row]:
            want = torch.trapezoid((rank - (grid >= r).double()).square(), grid)
            got = mixture_crps(r, weight[row], start[row], width[row])
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


def test_the_ranked_probability_score_of_narrow_parts_is_that_of_a_discrete_law() -> None:
    """Σ β |v - r| - ½ Σ Σ β β |v - v'|, where parts without width are between wide ones without weight."""
    value = torch.tensor([0.1, 0.4, 1.0, 2.5], dtype=torch.float64)
    weight = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
    weights = torch.stack([weight, torch.zeros(4)], -1).flatten()[:-1]
    widths = torch.stack([torch.zeros(4), torch.nn.functional.pad(value.diff(), (0, 1))], -1).flatten()[:-1]
    for ratio in (0.0, 0.25, 1.7, 3.0):
        got = mixture_crps(torch.tensor(ratio, dtype=torch.float64), weights, value[:1], widths)
        want = crps(weight[None].numpy(), value[None].numpy(), np.array([ratio]))
        assert float(got) == pytest.approx(want, abs=1e-9)


def test_the_ranked_probability_score_is_least_at_the_shares_of_the_rows() -> None:
    """A proper score: by gradient steps, the weights become the shares of what was drawn."""
    _, start, width = law()
    edge = torch.cat([start[0], start[0] + width[0].cumsum(-1)])
    true = torch.tensor([0.3, 0.05, 0.25, 0.1, 0.2, 0.1], dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    part = torch.multinomial(true, 20_000, replacement=True, generator=g)
    ratio = edge[part] + torch.rand(20_000, generator=g, dtype=torch.float64) * width[0][part]
    logit = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    lbfgs = torch.optim.LBFGS([logit], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        loss = mixture_crps(ratio, logit.softmax(-1), start[0], width[0]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    lbfgs.step(closure)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logit.softmax(-1).detach(), true, atol=0.02, rtol=0)


def test_the_states_of_a_law_are_shares_of_its_draws() -> None:
    weight, start, width = law()
    duration = torch.tensor([2.0, 3.03, 5.0, 40.0], dtype=torch.float64)
    levels = tuple(((np.arange(100_000) + 0.5) / 100_000).tolist())
    draws = mixture_quantiles(weight[:4], start[:4], width[:4], levels)
    rank = mixture_rank(state_edges(duration), start[:4, None], width[:4, None], weight[:4, None])
    got = state_probabilities(rank).numpy()
    for row, seconds in enumerate((draws * duration[:, None]).numpy()):
        want = watch_states(seconds, np.full(seconds.shape, duration[row])).mean(0)
        np.testing.assert_allclose(got[row], want, atol=1e-4)


def test_the_loss_of_states_is_the_logarithm_of_what_happened() -> None:
    state = torch.tensor([[0.4, 0.1, 0.2]]).repeat(4, 1)
    ratio = torch.tensor([0.05, 0.5, 1.0, 1.5])  # skip, partial, complete, replay
    got = [float(state_loss(state[i : i + 1], ratio[i : i + 1], torch.tensor([20.0]))) for i in range(4)]
    assert got == pytest.approx((-np.log([0.4, 0.3, 0.1, 0.2])).tolist(), abs=1e-6)
    assert float(state_loss(state, ratio, torch.full((4,), 20.0))) == pytest.approx(np.mean(got))


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
