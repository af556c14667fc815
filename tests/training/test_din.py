"""DIN: the attention it computes is the attention it is defined by, and a score stands alone."""

from __future__ import annotations

import torch

from tests.training._builders import din, din_ids
from training.encoders._din import DIN, Dice


def test_the_collapsed_attention_is_the_one_of_the_definition() -> None:
    model = din()
    candidate, history = din_ids(4, 2), din_ids(4, 7, seed=1)
    history[0, :3] = 0
    q = model._items(candidate)[:, :, None, :].expand(-1, -1, 7, -1)
    h = model._items(history)[:, None, :, :].expand(-1, 2, -1, -1)
    s = model.attention(torch.cat([q, h, q - h, q * h], -1))
    s = s * (history[:, None, :, :1] != 0)
    torch.testing.assert_close(model._pooled(model._items(candidate), history, None), (s * h).sum(2))


def test_scores_of_a_candidate_do_not_depend_on_who_is_scored_with_it() -> None:
    model = din()
    user, candidate, history = torch.arange(4), din_ids(4, 5), din_ids(4, 6, seed=1)
    together = model(user, candidate, history)
    for u in range(4):
        for c in range(5):
            alone = model(user[u : u + 1], candidate[u : u + 1, c : c + 1], history[u : u + 1])
            torch.testing.assert_close(alone[0, 0], together[u, c])


def test_training_and_evaluation_mode_score_alike() -> None:
    model = din()
    args = torch.arange(3), din_ids(3, 2), din_ids(3, 4, seed=1)
    torch.testing.assert_close(model.train()(*args), model.eval()(*args))


def test_padded_steps_say_nothing_and_an_empty_history_is_an_answer() -> None:
    model = din()
    user, candidate, history = torch.arange(3), din_ids(3, 2), din_ids(3, 4, seed=1)
    padded = torch.cat([torch.zeros(3, 2, 3, dtype=torch.int64), history], 1)
    torch.testing.assert_close(model(user, candidate, padded), model(user, candidate, history))
    nothing = model(user, candidate, history[:, :0])
    torch.testing.assert_close(model(user, candidate, torch.zeros_like(history)), nothing)


def test_a_shared_timeline_with_a_view_of_it_is_a_history_of_ones_own() -> None:
    model = din()
    user, candidate, timeline = torch.arange(2), din_ids(2, 3), din_ids(2, 6, seed=1)
    visible = torch.zeros(2, 3, 6, dtype=torch.bool)
    for c in range(3):
        visible[:, c, c : c + 3] = True
    shared = model(user, candidate, timeline, visible)
    for c in range(3):
        own = model(user, candidate[:, c : c + 1], timeline[:, c : c + 3])
        torch.testing.assert_close(own[:, 0], shared[:, c])


def test_every_parameter_learns_and_the_sizes_are_the_papers() -> None:
    model = DIN(users=7, videos=9, groups=5, tags=4)
    loss = model(torch.arange(3), din_ids(3, 2) % 4, din_ids(3, 4, seed=1) % 4).square().sum()
    grads = torch.autograd.grad(loss, list(model.parameters()))
    assert all(float(g.abs().sum()) > 0 for g in grads)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    assert shapes["attention.0.weight"] == (36, 144)
    assert shapes["tower.0.weight"] == (200, 84)
    assert shapes["tower.2.weight"] == (80, 200)


def test_dice_passes_the_unusual_and_dims_the_rest() -> None:
    dice = Dice(4)
    x = torch.tensor([[10.0, -1.0, -1.0, -1.0]])
    torch.testing.assert_close(dice(x), torch.sigmoid(dice.norm(x)) * x)  # α starts at 0
