"""One score out of several objectives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput
from models.fusion import FLOOR, fuse

WATCH = np.array([0.2, 0.8, 0.5], np.float32)
INTEREST = np.array([0.9, 0.1, 0.5], np.float32)
VALUES = {"watch_time": WATCH, "interest": INTEREST}
UNIT = st.floats(0, 1, width=32)
WEIGHT = st.floats(-100, 100)


def test_equal_weights_are_the_geometric_mean() -> None:
    score, parts = fuse(VALUES, {"watch_time": 1, "interest": 1})
    np.testing.assert_allclose(score, np.sqrt(WATCH * INTEREST), rtol=1e-6)
    assert score.dtype == np.float32
    np.testing.assert_allclose(sum(parts.values()), np.log(score), rtol=1e-5)


def test_by_hand_with_unequal_weights() -> None:
    score, _ = fuse(VALUES, {"watch_time": 3, "interest": 1})
    np.testing.assert_allclose(score, (WATCH**3 * INTEREST) ** 0.25, rtol=1e-6)


def test_one_weight_is_that_objective_alone() -> None:
    for weights in ({"interest": 5.0}, {"interest": 1.0, "watch_time": 0.0}):
        np.testing.assert_allclose(fuse(VALUES, weights)[0], INTEREST, rtol=1e-6)


def test_a_negative_weight_turns_the_order_round() -> None:
    score, _ = fuse(VALUES, {"interest": -1})
    assert np.argsort(score).tolist() == np.argsort(-INTEREST).tolist()


@given(
    rows=st.lists(st.tuples(UNIT, UNIT), max_size=8), first=WEIGHT, second=WEIGHT, factor=st.floats(0.01, 100)
)
def test_a_score_is_positive_and_finite_and_only_proportions_of_weights_matter(
    rows: list[tuple[float, float]], first: float, second: float, factor: float
) -> None:
    if abs(first) + abs(second) < 1e-3:
        first = 1.0
    values = {name: np.array([r[i] for r in rows], np.float32) for i, name in enumerate("ab")}
    score, parts = fuse(values, {"a": first, "b": second})
    assert score.shape == (len(rows),)
    assert (np.isfinite(score) & (score > 0)).all()
    assert set(parts) == {"a", "b"}
    again, _ = fuse(values, {"a": first * factor, "b": second * factor})
    np.testing.assert_allclose(again, score, rtol=1e-4)


@given(low=UNIT, high=UNIT, other=UNIT, weight=st.floats(0.01, 10))
def test_more_of_a_wanted_objective_is_never_worse(
    low: float, high: float, other: float, weight: float
) -> None:
    low, high = sorted((low, high))
    values = {"a": np.array([low, high], np.float32), "b": np.full(2, other, np.float32)}
    score, _ = fuse(values, {"a": weight, "b": 1})
    assert score[0] <= score[1]


def test_zero_is_the_floor_and_not_minus_infinity() -> None:
    score, parts = fuse({"a": np.zeros(1, np.float32)}, {"a": 1})
    assert score.tolist() == [pytest.approx(FLOOR)]
    assert np.isfinite(parts["a"]).all()


@pytest.mark.parametrize(
    "weights", [{}, {"interest": 0}, {"interest": 0.0, "watch_time": -0.0}, {"interest": float("nan")},
                {"interest": float("inf")}, {"interest": 1, "watch_time": float("-inf")},
                {"interest": 1e308, "watch_time": 1e308}],
)  # fmt: skip
def test_weights_that_are_all_zero_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="must be finite and not all 0"):
        fuse(VALUES, weights)


def test_a_weight_for_no_objective_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        BadInput, match=r"`weights` names 'likes'; this bundle has \['interest', 'watch_time'\]"
    ):
        fuse(VALUES, {"interest": 1, "likes": 0})
