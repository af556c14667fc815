"""VR where the answer is known: least squares on linear data, means and medians."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training import _watch_time_asserts as wt
from tests.training._builders import watch_log
from training.watch_time import VR, VRConfig


def test_recovers_least_squares_on_linear_data() -> None:
    g = torch.Generator().manual_seed(0)
    state_ND = torch.randn(500, 5, generator=g)
    watch_N = 40 + state_ND @ torch.tensor([3.0, -2.0, 0.0, 1.0, 5.0]) + torch.randn(500, generator=g)
    duration_N = torch.full((500,), 60.0)
    head = VR(5, VRConfig(hidden=0)).fit_tables(watch_log(watch_N.numpy(), duration_N.numpy()), seed=0)
    wt.fit_exactly(head, state_ND, duration_N, watch_N)
    design = np.c_[state_ND.numpy(), np.ones(500)]
    ols, *_ = np.linalg.lstsq(design, watch_N.numpy(), rcond=None)
    np.testing.assert_allclose(head.seconds(state_ND, duration_N).detach().numpy(), design @ ols, atol=1e-2)


@pytest.mark.parametrize(("loss", "want"), [("mse", 11.5), ("l1", 1.0)])
def test_mse_is_least_at_the_mean_and_l1_at_the_median(loss: str, want: float) -> None:
    watch_N = torch.tensor([1.0, 1.0, 1.0, 43.0])
    state_ND = torch.zeros(4, 2)
    config = VRConfig.model_validate({"hidden": 0, "loss": loss})
    head = VR(2, config).fit_tables(watch_log(watch_N.numpy(), np.full(4, 60.0)), seed=0)

    def loss_at(seconds: float) -> float:
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.fill_(seconds / head.scale.item())
        return float(head.loss(state_ND, torch.full((4,), 60.0), watch_N).detach())

    assert loss_at(want) < min(loss_at(want - 0.5), loss_at(want + 0.5))
