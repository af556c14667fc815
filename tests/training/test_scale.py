"""scale(·): continuous at its knee, increasing, and never 0 for the long tail."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.errors import BadInput
from training.labels._scale import Scale

VALUES = np.random.default_rng(0).lognormal(3.0, 1.2, 5000).astype(np.float32)


def fitted() -> Scale:
    return Scale().fit(VALUES)


def test_the_knee_and_the_maximum_are_where_the_formula_puts_them() -> None:
    scale = fitted()
    assert float(scale.knee) == pytest.approx(np.quantile(VALUES, 0.9), rel=1e-6)
    assert float(scale.maximum) == pytest.approx(np.quantile(VALUES, 0.999), rel=1e-6)
    assert float(scale(scale.knee)) == pytest.approx(0.2, abs=1e-6)
    assert float(scale(scale.maximum)) == pytest.approx(1.0, abs=1e-6)
    assert float(scale(torch.tensor(0.0))) == 0.0


def test_is_continuous_at_the_knee_and_never_below_it_beyond() -> None:
    """The released code returns 0 for every value above the knee."""
    scale = fitted()
    knee = float(scale.knee)
    near = scale(torch.tensor([knee * (1 - 1e-5), knee * (1 + 1e-5)]))
    assert float(near.diff().abs()) < 1e-5
    above = scale(torch.linspace(knee, 100 * knee, 1000))
    assert bool((above >= 0.2 - 1e-6).all())


def test_increases_strictly_up_to_the_maximum_and_is_one_after() -> None:
    scale = fitted()
    inside = scale(torch.linspace(0, float(scale.maximum) * 0.999, 2000))
    assert bool((inside.diff() > 0).all())
    assert float(scale(scale.maximum * 50)) == 1.0


def test_values_that_tie_at_the_top_still_scale() -> None:
    scale = Scale().fit(np.full(100, 7.0, np.float32))
    out = scale(torch.tensor([0.0, 7.0, 8.0]))
    torch.testing.assert_close(out, torch.tensor([0.0, 0.2, 1.0]))


@pytest.mark.parametrize("values", [np.zeros(10, np.float32), np.zeros(0, np.float32)])
def test_refuses_values_without_anything_to_scale_by(
    values: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> None:
    with pytest.raises(BadInput, match=r"0\.9 quantile of watch time"):
        Scale(name="watch time").fit(values)


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"beta": 0.9999}, {"at_knee": 1.0}, {"top": 1.5}])
def test_refuses_options_without_a_knee(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="beta < top"):
        Scale(**options)  # type: ignore[arg-type]
