"""Dynamic balancing, with the numbers of the specification."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from training.balance import GradCraft
from training.labelcraft._balance import gradient_weights, objective_weights

MEANS = torch.tensor([0.12, 0.25, 0.05])


def test_the_posters_softmax_on_means_is_nearly_uniform() -> None:
    got = objective_weights(MEANS, tau=0.5, mode="poster")
    torch.testing.assert_close(got, torch.tensor([0.336, 0.315, 0.348]), rtol=0, atol=1e-3)


def test_scaled_puts_nearly_everything_on_the_objective_that_lags() -> None:
    got = objective_weights(MEANS, tau=0.5, mode="scaled")
    torch.testing.assert_close(got, torch.tensor([0.029, 0.000, 0.971]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("mode", ["poster", "scaled"])
def test_weights_sum_to_one_favour_the_smallest_and_without_sharpness_are_equal(
    mode: Literal["poster", "scaled"],
) -> None:
    weights = objective_weights(MEANS, tau=0.7, mode=mode)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-6)
    assert int(weights.argmax()) == 2
    torch.testing.assert_close(objective_weights(MEANS, tau=0.0, mode=mode), torch.full((3,), 1 / 3))


def test_a_disabled_objective_gets_nothing_and_the_others_one() -> None:
    assert objective_weights(MEANS, disable=1).tolist() == [1.0, 0.0, 1.0]


def test_an_objective_at_zero_gets_the_weight_and_no_nan() -> None:
    weights = objective_weights(torch.tensor([0.1, 0.0, 0.2]))
    assert bool(weights.isfinite().all())
    assert int(weights.argmax()) == 1


def test_weights_are_constants_for_the_gradient() -> None:
    assert not objective_weights(MEANS.clone().requires_grad_()).requires_grad


def test_refuses_a_negative_sharpness_and_an_index_that_is_none() -> None:
    with pytest.raises(ValueError, match="`tau`"):
        objective_weights(MEANS, tau=-1)
    with pytest.raises(ValueError, match="`disable`"):
        objective_weights(MEANS, disable=3)


def test_gradients_of_objectives_are_weighed_by_the_gramian_of_all_their_parameters() -> None:
    torch.manual_seed(0)
    gradients = [{"a": torch.randn(2, 3), "b": torch.randn(4)} for _ in range(3)]
    flat = torch.stack([torch.cat([g["a"].flatten(), g["b"]]) for g in gradients])
    torch.testing.assert_close(gradient_weights(gradients, tau=0.1), GradCraft(0.1)(flat @ flat.T))


def test_a_disabled_objectives_gradient_has_no_weight_and_no_conflicts() -> None:
    along, against = {"a": torch.tensor([1.0, 0.0])}, {"a": torch.tensor([-1.0, 0.1])}
    assert gradient_weights([along, against, along], disable=1).tolist() == pytest.approx([1 / 3, 0, 1 / 3])
