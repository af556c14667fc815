"""XAUC against its definition, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput
from models.metrics import Pairs, Ties, count_pairs, row_pairs, xauc, xgauc

CONVENTIONS: tuple[Ties, ...] = ("comparable", "strict", "lenient")

# Few distinct values, so that both sides tie often.
FEW = st.integers(-3, 3).map(float)
ROWS = st.lists(st.tuples(FEW, FEW), max_size=40)
DISTINCT = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=70)


def by_definition(prediction: list[float], target: list[float], ties: Ties) -> float | None:
    """The definition, in O(N²)."""
    score = pairs = 0.0
    for i in range(len(target)):
        for j in range(i):
            direction = np.sign(prediction[i] - prediction[j]) * np.sign(target[i] - target[j])
            if target[i] == target[j]:
                pairs += ties != "comparable"
                score += ties == "lenient"
            elif prediction[i] == prediction[j]:
                pairs += 1
                score += 0.0 if ties == "strict" else 0.5
            else:
                pairs += 1
                score += direction > 0
    return score / pairs if pairs else None


def split(rows: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [p for p, _ in rows], [t for _, t in rows]


def figure(prediction: list[float], target: list[float], ties: Ties = "comparable") -> float | None:
    return xauc(np.array(prediction), np.array(target), ties)


@pytest.mark.parametrize("ties", CONVENTIONS)
@given(rows=ROWS | DISTINCT)
def test_counts_what_the_definition_counts(ties: Ties, rows: list[tuple[float, float]]) -> None:
    assert figure(*split(rows), ties) == pytest.approx(by_definition(*split(rows), ties))


@given(rows=st.lists(st.tuples(FEW, FEW, st.sampled_from("abc")), max_size=30), grouped=st.booleans())
def test_the_pairs_of_a_row_are_those_of_its_group(
    rows: list[tuple[float, float, str]], grouped: bool
) -> None:
    prediction, target, group = (np.array([row[i] for row in rows]) for i in range(3))
    same_NN = group[:, None] == group if grouped else np.ones((len(rows), len(rows)), bool)
    target_NN, prediction_NN = (
        np.sign(x[:, None] - x) for x in (target.astype(float), prediction.astype(float))
    )
    found = row_pairs(prediction, target, group if grouped else None)
    comparable_NN = same_NN & (target_NN != 0)
    np.testing.assert_array_equal(found.comparable, comparable_NN.sum(1))
    np.testing.assert_array_equal(found.concordant, (same_NN & (target_NN * prediction_NN > 0)).sum(1))
    np.testing.assert_array_equal(found.prediction_ties, (comparable_NN & (prediction_NN == 0)).sum(1))
    np.testing.assert_array_equal(found.right, found.concordant + found.prediction_ties / 2)


@given(rows=st.lists(st.tuples(FEW, FEW, st.sampled_from("abc")), min_size=1, max_size=30))
def test_xgauc_is_the_mean_of_the_users_xauc_by_exposures(rows: list[tuple[float, float, str]]) -> None:
    prediction, target, user = (np.array(column) for column in zip(*rows, strict=True))
    figures, weights = [], []
    for mine in (user == u for u in np.unique(user)):
        figure = xauc(prediction[mine], target[mine])
        if figure is not None:
            figures.append(figure)
            weights.append(mine.sum())
    want = pytest.approx(np.average(figures, weights=weights)) if figures else None
    assert xgauc(user, prediction, target) == want


@given(rows=ROWS)
def test_every_pair_is_of_one_kind(rows: list[tuple[float, float]]) -> None:
    prediction, target = split(rows)
    assert count_pairs(np.array(prediction), np.array(target)).total == len(rows) * (len(rows) - 1) // 2


@pytest.mark.parametrize(("ties", "want"), [("comparable", 3.5 / 5), ("strict", 3 / 6), ("lenient", 4.5 / 6)])
def test_by_hand(ties: Ties, want: float) -> None:
    # Pairs of rows: ab right, ac right, ad right, bc tied target, bd tied prediction, cd wrong.
    prediction, target = [1.0, 2.0, 3.0, 2.0], [10.0, 20.0, 20.0, 30.0]
    assert figure(prediction, target, ties) == pytest.approx(want)
    assert count_pairs(np.array(prediction), np.array(target)) == Pairs(3, 1, 1, 1)


def test_a_constant_predictor_knows_nothing() -> None:
    target = [0.0, 1.0, 1.0, 5.0, 9.0]
    assert figure([3.0] * 5, target) == 0.5
    assert figure([3.0] * 5, target, "strict") == 0.0


def test_the_conventions_differ_by_the_ties_alone() -> None:
    rng = np.random.default_rng(0)
    target = np.round(rng.exponential(5, 500))
    prediction = target + rng.normal(0, 5, 500)
    pairs = count_pairs(prediction, target)
    assert pairs.prediction_ties == 0
    strict, comparable, lenient = (pairs.xauc(t) or 0.0 for t in ("strict", "comparable", "lenient"))
    assert 0 < strict < comparable < lenient
    assert lenient - strict == pytest.approx(pairs.target_ties / pairs.total)


@given(rows=ROWS)
def test_only_the_order_of_the_prediction_matters(rows: list[tuple[float, float]]) -> None:
    prediction, target = split(rows)
    for ties in CONVENTIONS:
        assert figure([np.exp(p) * 7 - 2 for p in prediction], target, ties) == figure(
            prediction, target, ties
        )


@given(rows=ROWS, seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[float, float]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    for ties in CONVENTIONS:
        assert figure(*split(rows), ties) == figure(*split([rows[i] for i in order]), ties)


@given(rows=ROWS)
def test_the_opposite_prediction_has_the_opposite_figure(rows: list[tuple[float, float]]) -> None:
    prediction, target = split(rows)
    found, opposite = figure(prediction, target), figure([-p for p in prediction], target)
    if found is None or opposite is None:
        assert found is opposite
    else:
        assert found + opposite == pytest.approx(1.0)


def test_the_truth_is_ordered_perfectly_and_its_reverse_not_at_all() -> None:
    target = np.array([3.0, 1.0, 2.0, 2.0])
    assert xauc(target, target) == 1.0
    assert xauc(-target, target) == 0.0
    assert xauc(target, target, "strict") == 5 / 6
    assert xauc(-target, target, "lenient") == pytest.approx(1 / 6)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 127, 128, 129])
def test_sizes_around_powers_of_two(size: int) -> None:
    rng = np.random.default_rng(size)
    prediction, target = rng.permutation(size).astype(float), rng.permutation(size).astype(float)
    assert xauc(prediction, target) == pytest.approx(
        by_definition(list(prediction), list(target), "comparable")
    )


def test_a_million_rows_agree_with_a_rank_correlation() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    target = np.round(rng.exponential(20, 1_000_000), 1)
    prediction = np.round(target + rng.normal(0, 20, target.size), 1)
    pairs = count_pairs(prediction, target)
    # Kendall's τ_b = (C - D) / sqrt(pairs whose predictions differ · pairs whose targets differ).
    _, runs = np.unique(prediction, return_counts=True)
    predictions_differ = pairs.total - int((runs * (runs - 1) // 2).sum())
    targets_differ = pairs.total - pairs.target_ties
    tau = (pairs.concordant - pairs.discordant) / np.sqrt(float(predictions_differ) * float(targets_differ))
    assert stats.kendalltau(prediction, target).statistic == pytest.approx(tau, rel=1e-9)


@pytest.mark.parametrize("ties", CONVENTIONS)
def test_without_a_pair_there_is_no_figure(ties: Ties) -> None:
    assert figure([], [], ties) is None
    assert figure([1.0], [1.0], ties) is None


def test_without_differing_targets_nothing_is_comparable() -> None:
    assert figure([1, 2, 3], [5, 5, 5]) is None
    assert figure([1, 2, 3], [5, 5, 5], "strict") == 0.0
    assert figure([1, 2, 3], [5, 5, 5], "lenient") == 1.0


def test_float32_and_integers_are_compared_as_they_are() -> None:
    prediction = np.array([1, 2, 3], np.float32)
    assert xauc(prediction, np.array([1, 2, 3])) == 1.0
    assert xauc(prediction, np.array([True, False, False])) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_model_has_no_figure(bad: float) -> None:
    with pytest.raises(BadInput, match=r"`prediction` must be finite: 1 of 3 values .* in row 1"):
        figure([1.0, bad, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(BadInput, match="`target` must be finite"):
        figure([1.0, 2.0, 2.0], [1.0, 2.0, bad])


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match=r"columns must be \[N\] with one N"):
        figure([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"columns must be \[N\] with one N"):
        xauc(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="comparable, strict or lenient"):
        figure([1.0, 2.0], [1.0, 2.0], "loose")  # type: ignore[arg-type]
