"""Counts of yes and no: figures by hand, and a whole that is the sum of its parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput
from models.metrics import Confusion

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30)


def counted(pairs: list[tuple[bool, bool]]) -> Confusion:
    return Confusion.from_columns(*np.array(pairs, bool).reshape(-1, 2).T)


def test_figures_are_those_one_counts_by_hand() -> None:
    found = Confusion.from_columns(np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0, 0, 0]))
    assert found == Confusion(2, 1, 1, 4)
    assert (found.accuracy, found.precision, found.recall) == (6 / 8, 2 / 3, 2 / 3)
    assert found.f1 == pytest.approx(2 / 3)


@given(PAIRS, PAIRS)
def test_the_whole_is_the_sum_of_its_parts(
    left: list[tuple[bool, bool]], right: list[tuple[bool, bool]]
) -> None:
    """And so its accuracy is the mean of theirs by rows."""
    whole, first, second = counted(left + right), counted(left), counted(right)
    assert whole == first.plus(second)
    if left and right:
        assert first.accuracy is not None
        assert second.accuracy is not None
        mean = (len(left) * first.accuracy + len(right) * second.accuracy) / len(left + right)
        assert whole.accuracy == pytest.approx(mean)


@given(PAIRS)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(pairs: list[tuple[bool, bool]]) -> None:
    found = counted(pairs)
    if found.precision and found.recall:
        assert found.f1 == pytest.approx(2 / (1 / found.precision + 1 / found.recall))


def test_what_is_not_defined_is_none() -> None:
    nothing = counted([])
    assert (nothing.accuracy, nothing.precision, nothing.recall, nothing.f1) == (None, None, None, None)
    silent = counted([(True, False)])
    assert (silent.precision, silent.recall, silent.f1) == (None, 0.0, 0.0)


def test_a_diverged_model_is_refused() -> None:
    with pytest.raises(BadInput, match="predicted"):
        Confusion.from_columns(np.array([1.0]), np.array([np.nan]))
