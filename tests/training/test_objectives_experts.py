"""Experts: who reads whom, and that a readout of their mixture is one of every state."""

from __future__ import annotations

import torch

from training.rankers import OUTCOMES, Experts, ObjectivesConfig


def used(experts: Experts, state: torch.Tensor) -> torch.Tensor:
    """Which experts `state` is made from: the shared ones, then the objectives' own."""
    experts.zero_grad()
    state.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    rows = [layer.weight.grad for layer in (experts.shared, experts.own)]
    return torch.cat([row.reshape(-1, 4, 6).abs().sum((1, 2)) > 0 for row in rows if row is not None])


def test_skip_and_hate_share_no_expert_with_what_goes_well() -> None:
    torch.manual_seed(0)
    sides = [outcome.side for outcome in OUTCOMES]
    experts = Experts(6, sides, ObjectivesConfig(expert=4))
    mixture = experts(torch.randn(50, 6))

    def read(side: str) -> torch.Tensor:
        mine = [mixture.state(t) for t, of in enumerate(sides) if of == side]
        return used(experts, torch.stack(mine))

    positive, negative = read("positive"), read("negative")
    assert positive.any()
    assert negative.any()
    assert not (positive & negative).any()
    assert (positive | negative).all()


def test_an_objective_reads_its_sides_shared_experts_and_its_own() -> None:
    torch.manual_seed(0)
    config = ObjectivesConfig(expert=4, shared=2)
    experts = Experts(6, [outcome.side for outcome in OUTCOMES], config)
    mixture = experts(torch.randn(50, 6))
    for t in range(len(OUTCOMES)):
        mine = used(experts, mixture.state(t))
        assert int(mine[:4].sum()) == config.shared
        assert mine[4:].nonzero().flatten().tolist() == [t]


def test_shares_of_an_objectives_experts_add_up_whatever_the_side() -> None:
    experts = Experts(6, ["negative", "positive", "negative"], ObjectivesConfig(expert=4, shared=1))
    gate = experts(torch.randn(2, 3, 6)).gate
    assert torch.allclose(gate.sum(-1), torch.ones(2, 3, 3))
    # Shared experts of the positive side come first, in every order of the objectives.
    assert not gate[..., [0, 2], 0].any()
    assert not gate[..., 1, 1].any()


def test_a_readout_of_the_mixture_is_that_of_every_objectives_state() -> None:
    torch.manual_seed(0)
    sides = [outcome.side for outcome in OUTCOMES]
    mixture = Experts(6, sides, ObjectivesConfig(expert=4))(torch.randn(2, 3, 6))
    weight = torch.randn(len(sides), 4)
    states = torch.stack([mixture.state(t) for t in range(len(sides))], dim=-2)
    assert torch.allclose(mixture.readout(weight), (states * weight).sum(-1), atol=1e-6)
