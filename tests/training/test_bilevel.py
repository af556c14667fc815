"""The meta-gradient, three ways: closed form, double backward, finite differences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.training._builders import din, din_ids
from training.labelcraft import soft_top_k
from training.labelcraft._gradients import (
    Inner,
    InnerLoss,
    Params,
    Rates,
    call,
    descend,
    outer_gradient,
    outer_gradients,
    parameters_of,
)
from training.labelcraft._step import Moments

RATE = 0.7
K = 2


class Setting:
    """A DIN, a labeller, six training rows and three hold-out users of five candidates.

    With `adam` two gradients came before, of other labels, and the step divides by their second moments.
    """

    def __init__(self, loss: InnerLoss, *, adam: bool = False) -> None:
        self.loss: InnerLoss = loss
        self.model = din()
        torch.manual_seed(1)
        self.labeller = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Sigmoid()).double()
        self.feedback = torch.rand(6, 3, dtype=torch.float64)
        self.params = parameters_of(self.model)
        rates = {n: RATE * (3.0 if n.startswith("item") else 1.0) for n in self.params}
        self.lr: Rates = rates
        self.train = (torch.arange(6) % 5, din_ids(6, 1, seed=2), din_ids(6, 4, seed=3))
        self.hold = (torch.arange(3), din_ids(3, 5, seed=4), din_ids(3, 4, seed=5))
        self.watch = torch.rand(3, 5, dtype=torch.float64)
        if adam:
            moments, inner = Moments({}, 0), Inner(self.predict, self.params, loss=loss)
            for seed in (6, 7):
                other = torch.rand(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
                moments = moments.after(inner.gradient(other))
            self.lr = moments.rates({n: 0.01 * rate for n, rate in rates.items()})

    def predict(self, params: Params) -> Tensor:
        z_B = call(self.model, params, *self.train)[:, 0]
        return torch.sigmoid(z_B) if self.loss == "mse" else z_B

    def objective(self, params: Params) -> Tensor:
        s = torch.sigmoid(call(self.model, params, *self.hold))
        mask = torch.ones_like(s, dtype=torch.bool)
        return (soft_top_k(s, mask, K, temperature=0.05) / K * self.watch).sum(-1).mean()

    def labels(self) -> Tensor:
        out: Tensor = self.labeller(self.feedback)[:, 0]
        return out

    def value(self) -> Tensor:
        """M(θ - η ∇L(θ, φ)), the whole thing."""
        inner = Inner(self.predict, self.params, loss=self.loss)
        return self.objective(descend(self.params, inner.gradient(self.labels()), self.lr))

    def gradient(self) -> list[Tensor]:
        """∇_φ M by the closed form."""
        labels = self.labels()
        inner = Inner(self.predict, self.params, loss=self.loss)
        ahead = descend(self.params, inner.gradient(labels), self.lr)
        _, v = outer_gradient(self.objective, ahead)
        cotangent = inner.label_gradient(v, self.lr)
        return list(torch.autograd.grad(labels, list(self.labeller.parameters()), cotangent))


LOSSES: list[InnerLoss] = ["mse", "bce"]
STEPS = pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adam"])


@STEPS
@pytest.mark.parametrize("loss", LOSSES)
def test_equals_central_finite_differences(loss: InnerLoss, adam: bool) -> None:
    setting, h = Setting(loss, adam=adam), 1e-5
    for p, got in zip(setting.labeller.parameters(), setting.gradient(), strict=True):
        want = torch.zeros_like(p)
        with torch.no_grad():
            for i in range(p.numel()):
                flat, at = p.view(-1), float(p.view(-1)[i])
                flat[i] = at + h
                up = float(setting.value())
                flat[i] = at - h
                down = float(setting.value())
                flat[i] = at
                want.view(-1)[i] = (up - down) / (2 * h)
        assert float((got - want).norm() / want.norm()) < 1e-4


@STEPS
@pytest.mark.parametrize("loss", LOSSES)
def test_equals_differentiating_twice(loss: InnerLoss, adam: bool) -> None:
    setting = Setting(loss, adam=adam)
    attached = {n: p.clone().requires_grad_() for n, p in setting.params.items()}
    losses: dict[InnerLoss, Callable[[Tensor, Tensor], Tensor]] = {
        "mse": nn.functional.mse_loss,
        "bce": nn.functional.binary_cross_entropy_with_logits,
    }
    value = losses[loss](setting.predict(attached), setting.labels())
    inner = Inner(setting.predict, setting.params, loss=loss)
    torch.testing.assert_close(inner.loss(setting.labels()), value.detach())
    grads = torch.autograd.grad(value, list(attached.values()), create_graph=True)
    ahead = {n: p - setting.lr[n] * g for (n, p), g in zip(attached.items(), grads, strict=True)}
    want = torch.autograd.grad(setting.objective(ahead), list(setting.labeller.parameters()))
    for got, w in zip(setting.gradient(), want, strict=True):
        assert float((got - w).norm() / w.norm()) < 1e-9


def test_one_row_by_hand() -> None:
    """f = w x, M = w': ∂M/∂y = 2 η x / B."""
    x = torch.tensor([3.0, -1.0], dtype=torch.float64)
    params = {"w": torch.tensor(0.5, dtype=torch.float64)}
    one = {"w": torch.tensor(1.0, dtype=torch.float64)}
    got = Inner(lambda p: p["w"] * x, params).label_gradient(one, {"w": 0.1})
    torch.testing.assert_close(got, 2 * 0.1 * x / 2)


@STEPS
@pytest.mark.parametrize("loss", LOSSES)
def test_a_small_step_of_the_labeller_does_not_lower_the_objective(loss: InnerLoss, adam: bool) -> None:
    setting = Setting(loss, adam=adam)
    before, gradient = float(setting.value()), setting.gradient()
    with torch.no_grad():
        for p, g in zip(setting.labeller.parameters(), gradient, strict=True):
            p.add_(g, alpha=1e-2)
    gained = float(setting.value()) - before
    promised = 1e-2 * sum(float(g.square().sum()) for g in gradient)
    assert gained > 0
    assert gained == pytest.approx(promised, rel=0.05)


def test_an_unused_parameter_neither_moves_nor_breaks() -> None:
    params = {"w": torch.tensor(1.0), "idle": torch.tensor(2.0)}
    x, label = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])
    inner = Inner(lambda p: p["w"] * x, params)
    moved = descend(params, inner.gradient(label), {"w": 0.1, "idle": 0.1})
    assert float(moved["idle"]) == 2.0
    assert float(moved["w"]) != 1.0


def test_the_rates_of_adam_are_those_of_the_gradients_before() -> None:
    """√ of the mean square, weighted as Adam's second moment with β2 = 0.999 and its young mean corrected."""
    young, old = torch.tensor([3.0, 0.0]), torch.tensor([1.0, 2.0])
    moments = Moments({}, 0).after({"w": old}).after({"w": young})
    square = (0.999 * old**2 + young**2) / 1.999
    rates = moments.rates({"w": 0.1})
    assert isinstance(rates["w"], Tensor)
    torch.testing.assert_close(rates["w"], 0.1 / square.sqrt(), rtol=1e-5, atol=0)
    assert Moments({}, 0).rates({"w": 0.1}) == {"w": 0.1}


def test_an_element_that_no_gradient_has_reached_stays() -> None:
    """A row of a table at its first exposure: divided by the moment 0 it would jump."""
    moments = Moments({}, 0).after({"w": torch.tensor([0.0, 2.0])})
    moved = descend({"w": torch.zeros(2)}, {"w": torch.tensor([1e-5, 2.0])}, moments.rates({"w": 0.1}))
    torch.testing.assert_close(moved["w"], torch.tensor([0.0, -0.1]))


def test_gradients_of_several_objectives_are_those_of_each() -> None:
    torch.manual_seed(0)
    params = {"a": torch.randn(3), "b": torch.randn(2)}

    def objectives(params: Params) -> torch.Tensor:
        return torch.stack([(params["a"] ** 2).sum(), params["a"].sum() * params["b"].sum()])

    def one_of(t: int, params: Params) -> torch.Tensor:
        return objectives(params)[t]

    values, each = outer_gradients(objectives, params)
    for t, found in enumerate(each):
        value, wanted = outer_gradient(partial(one_of, t), params)
        assert value == values[t]
        assert all(torch.equal(found[name], wanted[name]) for name in params)
