"""The propensities that the service logs are those that estimates from its log compute."""

from __future__ import annotations

import numpy as np
import pytest

from service.pipeline.exploration import drawn_order, logits, propensities
from training.off_policy import PlackettLuce


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("temperature", [0.005, 0.1, 10.0])
def test_both_sides_agree_on_every_position(temperature: float, epsilon: float) -> None:
    score = np.random.default_rng(0).uniform(0.01, 0.5, 40)
    logit, every = logits(score, temperature), np.arange(40)
    order = drawn_order(logit, every, 40, epsilon, "r1")
    found = propensities(logit[order], every + 1, every, epsilon)
    want = PlackettLuce(score[None], temperature, epsilon).propensities(order[None])
    np.testing.assert_allclose(found, want[0], rtol=1e-9)
