"""VR: the shared properties, and a linear world in which the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import _watch_time_asserts as wt
from training.watch_time import VR, Head, VRConfig


@pytest.fixture
def fitted() -> VR:
    torch.manual_seed(0)
    return VR(wt.STATE).fit_tables(wt.heavy_tailed_log(), seed=0)


def test_is_a_head(fitted: VR) -> None:
    assert isinstance(fitted, Head)
    wt.assert_answers_finite_seconds(fitted)


def test_depends_on_the_row_alone(fitted: VR) -> None:
    wt.assert_rows_do_not_see_each_other(fitted)


def test_exports(fitted: VR, tmp_path: Path) -> None:
    wt.assert_onnx_agrees_with_torch(fitted, tmp_path)


def test_is_saved_whole(fitted: VR) -> None:
    wt.assert_survives_a_round_trip(fitted, VR(wt.STATE))


def test_refuses_without_tables() -> None:
    wt.assert_refuses_to_learn_before_its_tables(VR(wt.STATE))


def test_recovers_least_squares_in_a_linear_world() -> None:
    g = torch.Generator().manual_seed(0)
    state_ND = torch.randn(500, 5, generator=g)
    watch_N = 40 + state_ND @ torch.tensor([3.0, -2.0, 0.0, 1.0, 5.0]) + torch.randn(500, generator=g)
    duration_N = torch.full((500,), 60.0)
    head = VR(5, VRConfig(hidden=0)).fit_tables(wt.log_of(watch_N.numpy(), duration_N.numpy()), seed=0)
    lbfgs = torch.optim.LBFGS(
        head.parameters(), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        loss = head.loss(state_ND, duration_N, watch_N)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    lbfgs.step(closure)  # type: ignore[no-untyped-call]
    design = np.c_[state_ND.numpy(), np.ones(500)]
    ols, *_ = np.linalg.lstsq(design, watch_N.numpy(), rcond=None)
    np.testing.assert_allclose(head.seconds(state_ND, duration_N).detach().numpy(), design @ ols, atol=1e-2)


@pytest.mark.parametrize(("loss", "want"), [("mse", 11.5), ("l1", 1.0)])
def test_mse_is_least_at_the_mean_and_l1_at_the_median(loss: str, want: float) -> None:
    watch_N = torch.tensor([1.0, 1.0, 1.0, 43.0])
    state_ND = torch.zeros(4, 2)
    config = VRConfig.model_validate({"hidden": 0, "loss": loss})
    head = VR(2, config).fit_tables(wt.log_of(watch_N.numpy(), np.full(4, 60.0)), seed=0)

    def loss_at(seconds: float) -> float:
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.fill_(seconds / head.scale.item())
        return float(head.loss(state_ND, torch.full((4,), 60.0), watch_N).detach())

    assert loss_at(want) < min(loss_at(want - 0.5), loss_at(want + 0.5))
