"""Percentiles: the share of training rows with a lower label, for every label maker at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.arrays import F32, F64
from tests.training._asserts import assert_onnx_agrees_with_torch
from tests.training._builders import grouped_log, watched_log
from training.labelcraft import LabelCraft
from training.labels import EF, PCR, LabelMakers, heuristic_label_makers
from training.labels._percentiles import Percentiles

LOG = grouped_log(watched_log())
FEEDBACK, GROUPS = torch.from_numpy(LOG.feedback), torch.from_numpy(LOG.groups)

unit = st.floats(0, 1, width=32)
labels_of_two_makers = st.lists(
    st.tuples(unit, unit | st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=60
).map(lambda rows: np.array(rows, np.float32).T)


def shares(label_N: F32, value_N: F32) -> F64:
    """The definition, by counting."""
    below, same = label_N < value_N[:, None], label_N == value_N[:, None]
    return np.asarray((below.sum(1) + same.sum(1) / 2) / len(label_N), np.float64)


@given(labels_of_two_makers, st.lists(st.floats(width=32), max_size=20))
def test_it_never_falls_and_is_a_share_of_any_number(label_TN: F32, others: list[float]) -> None:
    values = np.sort(np.array([*label_TN.ravel(), *others, -np.inf, np.inf], np.float32))
    values = values[~np.isnan(values)]
    with torch.no_grad():
        found = Percentiles(2).fit(label_TN)(torch.from_numpy(np.stack([values, values])))
    assert bool(((found >= 0) & (found <= 1)).all())
    assert bool((found.diff(dim=0) >= -1e-6).all())


@given(labels_of_two_makers)
def test_it_is_the_definition_at_its_knots_and_off_by_less_than_the_rows_between_them(label_TN: F32) -> None:
    fitted = Percentiles(2).fit(label_TN)
    at_knots = fitted(fitted.knot).numpy().T
    found = fitted(torch.from_numpy(label_TN)).numpy().T
    for maker, label_N in enumerate(label_TN):
        knot_C = fitted.knot[maker].numpy()
        assert (np.diff(knot_C) > 0).all()
        share_C = shares(label_N, knot_C)
        np.testing.assert_allclose(at_knots[maker], share_C, atol=1e-6)
        after = np.searchsorted(knot_C, label_N)
        bracket_C = np.array([share_C[0], *share_C, share_C[-1]])  # level at both ends
        assert (found[maker] >= bracket_C[after] - 1e-6).all()
        assert (found[maker] <= bracket_C[after + 1] + 1e-6).all()


@pytest.mark.parametrize("width", [1.0, 1e-2])
def test_labels_that_lie_close_together_are_told_apart(width: float) -> None:
    random = np.random.default_rng(0)
    label_N = (0.2 + width * random.beta(0.5, 3.0, 5_000) * 0.8).astype(np.float32)
    label_N[:1_000] = 0.2 + width / 10
    found = Percentiles(1).fit(label_N[None])(torch.from_numpy(label_N[None]))[:, 0].numpy()
    assert abs(found - shares(label_N, label_N)).mean() < 0.005


def test_of_every_label_maker_it_is_the_share_of_training_rows_below() -> None:
    makers = [LabelCraft(), *(maker.fit(LOG) for maker in heuristic_label_makers())]
    fitted = LabelMakers(makers).fit_percentiles(LOG)
    with torch.no_grad():
        *labels, percentiles = (answer.numpy() for answer in fitted(FEEDBACK, GROUPS))
    binary = 0
    for maker, label, found in zip(makers, labels, percentiles.T, strict=True):
        share = (stats.rankdata(label) - 0.5) / len(label)
        off = abs(found - share)
        values, rows = np.unique(label, return_counts=True)
        assert off[label == values[rows.argmax()]].max() < 1e-6, maker.name  # the largest plateau
        assert off.mean() < 0.005, maker.name
        assert found.mean() == pytest.approx(0.5, abs=0.005), maker.name
        if len(values) == 2:
            binary += 1
            assert off.max() < 1e-6, maker.name
    assert binary == 12


def test_a_label_of_a_plateau_that_is_rounded_otherwise_keeps_its_percentile() -> None:
    label = np.array([[0.3] * 500 + [0.3 + i * 1e-5 for i in range(1, 501)]], np.float32)
    plateau = label[0, 0]
    near = torch.from_numpy(np.array([[np.nextafter(plateau, 0), plateau, np.nextafter(plateau, 1)]]))
    assert Percentiles(1).fit(label)(near)[:, 0].tolist() == [0.25] * 3


def test_a_label_that_is_no_number_has_no_percentile_and_fails_nothing() -> None:
    found = Percentiles(1).fit(np.array([[0.0, 1.0]], np.float32))(torch.tensor([[torch.nan, 0.0, 1.0]]))
    assert found[0].isnan()
    assert found[1:, 0].tolist() == [0.25, 0.75]


class _PercentilesOnly(torch.nn.Module):
    def __init__(self, makers: LabelMakers) -> None:
        super().__init__()
        self.makers = makers

    def forward(self, feedback: torch.Tensor) -> torch.Tensor:
        percentiles: torch.Tensor = self.makers(feedback)[-1]
        return percentiles.T


@pytest.mark.slow
def test_the_graph_answers_as_torch(tmp_path: Path) -> None:
    makers = LabelMakers([PCR(), EF()]).fit_percentiles(LOG)
    assert_onnx_agrees_with_torch(_PercentilesOnly(makers), {"feedback": FEEDBACK}, tmp_path, atol=1e-6)
