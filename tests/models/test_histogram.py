"""Histograms hold every value once; the stability index is 0 for equal shares and grows with the distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.histogram import FLOOR, Histogram, counts, psi

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200)
SHARES = st.lists(st.integers(0, 1000), min_size=3, max_size=13).filter(any)


@given(VALUES)
def test_every_value_is_in_one_bin_and_shares_are_of_all_of_them(values: list[float]) -> None:
    sample = np.array(values, np.float32)
    histogram = Histogram.from_values(sample)
    found = counts(np.array(histogram.edges), sample)
    assert found.shape == (len(histogram.edges) + 1,)
    assert (int(found.sum()), histogram.rows) == (len(values), len(values))
    np.testing.assert_allclose(histogram.shares, found / len(values), atol=1e-6)


def test_edges_are_the_quantiles_of_the_sample() -> None:
    histogram = Histogram.from_values(np.arange(1000))
    assert list(histogram.edges) == [9, 99, 199, 299, 399, 499, 599, 699, 799, 899, 989]
    assert list(histogram.shares) == [0.009, 0.09, *[0.1] * 8, 0.09, 0.011]


def test_a_bin_begins_with_its_edge() -> None:
    assert counts(np.array([0.0, 1.0]), np.array([-1.0, 0.0, 0.5, 1.0, np.inf])).tolist() == [1, 2, 2]


def test_a_label_that_is_nearly_always_zero_still_has_two_sides() -> None:
    histogram = Histogram.from_values(np.r_[np.zeros(980), np.ones(20)])
    assert histogram.edges == (0.0, 1.0)
    assert histogram.shares == (0.0, 0.98, 0.02)


def test_what_is_not_finite_is_left_out_and_nothing_else_is_refused() -> None:
    assert Histogram.from_values(np.array([np.nan, 2.0, np.inf])).rows == 1
    with pytest.raises(ValueError, match="at least one finite"):
        Histogram.from_values(np.array([np.nan]))


@pytest.mark.parametrize(
    ("edges", "shares", "match"),
    [
        ((1.0, 1.0), (0.5, 0.5, 0.0), "ascend"),
        ((2.0, 1.0), (0.5, 0.5, 0.0), "ascend"),
        ((math.inf,), (0.5, 0.5), "finite"),
        ((1.0,), (0.5, 0.25, 0.25), "2 bins, not 3"),
        ((1.0,), (0.5, 0.25), "add up to 1"),
    ],
)
def test_what_is_no_distribution_is_refused(
    edges: tuple[float, ...], shares: tuple[float, ...], match: str
) -> None:
    with pytest.raises(ValidationError, match=match):
        Histogram(edges=edges, shares=shares, rows=1)


# --- the index


@given(SHARES)
def test_equal_shares_are_no_distance_apart(sizes: list[int]) -> None:
    found = np.array(sizes)
    assert psi((found / found.sum()).tolist(), found * 7) == pytest.approx(0, abs=1e-12)


@given(st.data())
def test_it_is_finite_never_negative_and_the_same_in_both_directions(data: st.DataObject) -> None:
    p = np.array(data.draw(SHARES))
    size = st.lists(st.integers(0, 1000), min_size=len(p), max_size=len(p)).filter(any)
    q = np.array(data.draw(size))
    there, back = psi((p / p.sum()).tolist(), q), psi((q / q.sum()).tolist(), p)
    assert 0 <= there < math.inf
    assert there == pytest.approx(back)


def test_it_is_what_one_works_out_by_hand() -> None:
    want = (0.75 - 0.5) * math.log(0.75 / 0.5) + (0.25 - 0.5) * math.log(0.25 / 0.5)
    assert psi([0.5, 0.5], np.array([3, 1])) == pytest.approx(want)


def test_a_bin_that_is_empty_on_one_side_counts_as_the_floor() -> None:
    want = (FLOOR - 0.5) * math.log(FLOOR / 0.5) + (1 - 0.5) * math.log(1 / 0.5)
    assert psi([0.5, 0.5], np.array([0, 10])) == pytest.approx(want)


def test_chance_alone_stays_far_below_a_shift_of_half_a_deviation() -> None:
    random = np.random.default_rng(0)
    histogram = Histogram.from_values(random.normal(size=50_000))
    edges = np.array(histogram.edges)
    same = psi(histogram.shares, counts(edges, random.normal(size=5_000)))
    moved = psi(histogram.shares, counts(edges, random.normal(0.5, size=5_000)))
    assert same < 0.02
    assert moved > 0.2


@pytest.mark.parametrize("counted", [[0, 0], [1, 2, 3]])
def test_what_cannot_be_compared_is_refused(counted: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        psi([0.5, 0.5], np.array(counted))
