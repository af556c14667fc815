"""Errors in seconds, AUC within users, and the report of everything at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.errors import BadInput
from models.metrics import (
    STATES,
    Figures,
    auc,
    ds_at_k,
    ece,
    gauc,
    long_view,
    mae_s,
    mape,
    neg_at_k,
    report,
    rmse_s,
    watch_states,
)
from models.metrics._rows import Column


def column(*values: float) -> Column:
    return np.array(values, np.float64)


def one_user(n: int) -> Column:
    return np.zeros(n, np.int64)


# --- errors in seconds


def test_errors_in_seconds_by_hand() -> None:
    predicted, watched = column(10, 0, 5), column(7, 4, 5)
    assert mae_s(predicted, watched) == pytest.approx(7 / 3)
    assert rmse_s(predicted, watched) == pytest.approx(np.sqrt(25 / 3))
    assert mape(column(10, 0, 5, 9), column(8, 4, 5, 0.5)) == pytest.approx(
        (2 / 8 + 4 / 4 + 0) / 3
    )  # no skip


def test_float32_columns_are_summed_without_losing_digits() -> None:
    watched = np.full(3_000_000, 0.1, np.float32)
    assert mae_s(np.zeros_like(watched), watched) == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_no_rows_no_error() -> None:
    assert mae_s(column(), column()) is None
    assert rmse_s(column(), column()) is None
    assert mape(column(), column()) is None


def test_a_diverged_prediction_is_refused_not_dropped() -> None:
    for figure in (mae_s, mape, rmse_s):
        with pytest.raises(BadInput, match="`predicted_s` must be finite: 2 of 3"):
            figure(column(np.nan, 1, np.inf), column(1, 1, 1))
        with pytest.raises(ValueError, match="with one N"):
            figure(column(1), column(1, 2))


# --- long view


@pytest.mark.parametrize(
    ("watched", "duration", "want"),
    [
        (10, 10, True), (9.99, 10, False), (0, 10, False), (25, 10, True),
        (18, 18, True), (17.99, 18, False), (18, 18.01, True), (17.99, 300, False), (18, 300, True),
    ],
)  # fmt: skip
def test_long_view_is_complete_or_eighteen_seconds(watched: float, duration: float, want: bool) -> None:
    assert long_view(column(watched), column(duration)).tolist() == [want]


# --- watch states


@pytest.mark.parametrize(
    ("watched", "duration", "want"),
    [
        (2.9, 20, "skip"), (3, 20, ""), (19.5, 20, ""), (19.6, 20, "complete"), (20.4, 20, "complete"),
        (20.5, 20, "replay"), (60, 20, "replay"), (1.99, 2, "skip"), (2, 2, "complete"), (2.5, 2, "replay"),
    ],
)  # fmt: skip
def test_an_exposure_ends_in_one_state_at_most(watched: float, duration: float, want: str) -> None:
    found = watch_states(column(watched), column(duration))[0]
    assert [name for name, happened in zip(STATES, found, strict=True) if happened] == (
        [want] if want else []
    )


# --- AUC


def auc_by_definition(label: Column, score: Column) -> float:
    wins = [
        (s > t) + 0.5 * (s == t)
        for s, positive in zip(score, label, strict=True)
        for t, other in zip(score, label, strict=True)
        if positive > 0 and not other > 0
    ]
    return float(np.mean(wins))


@given(rows=st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[bool, int]]) -> None:
    label, score = (column(*c) for c in zip(*rows, strict=True))
    assume(0 < label.sum() < len(label))
    assert auc(label, score) == pytest.approx(auc_by_definition(label, score))


@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), max_size=40),
    names=st.permutations(["ann", "bob", "cat", "dan", "eve"]),
)
def test_gauc_weighs_each_users_auc_by_exposures(rows: list[tuple[int, bool, int]], names: list[str]) -> None:
    user, label, score = (column(*c) for c in zip(*rows, strict=True)) if rows else (column(),) * 3
    total = weight = 0.0
    for u in np.unique(user):
        mine = user == u
        if 0 < label[mine].sum() < mine.sum():
            total += mine.sum() * auc_by_definition(label[mine], score[mine])
            weight += mine.sum()
    want = pytest.approx(total / weight) if weight else None
    assert gauc(user, label, score) == want
    assert gauc(np.array(names)[user.astype(int)], label, score) == want


def test_gauc_ignores_how_users_differ_from_each_other() -> None:
    # Each user is ordered perfectly, though ann's worst scores above bob's best.
    user = np.array(["ann", "ann", "bob", "bob"])
    label, score = column(1, 0, 1, 0), column(9, 8, 2, 1)
    assert gauc(user, label, score) == 1.0
    assert auc(label, score) == 0.75


@pytest.mark.parametrize("label", [(), (1, 1), (0, 0)])
def test_without_both_classes_there_is_no_auc(label: tuple[float, ...]) -> None:
    assert auc(column(*label), column(*label)) is None
    assert gauc(one_user(len(label)), column(*label), column(*label)) is None


# --- the report

KEYS = {
    "rows", "users", "mae_s", "rmse_s", "xauc", "xauc_strict", "xauc_lenient", "gauc_long_view",
    *(f"{name}@{k}" for k in (5, 10) for name in ("users", "nwtg", "neg", "ds")),
    *(f"{name}@{k}_plain" for k in (5, 10) for name in ("nwtg", "neg", "ds")),
    *(f"neg@{k}_positive_users" for k in (5, 10)), *(f"users@{k}_positive" for k in (5, 10)),
}  # fmt: skip


def log(rows: int, seed: int = 0) -> dict[str, Column]:
    rng = np.random.default_rng(seed)
    duration = rng.uniform(3, 120, rows)
    watched = np.round(duration * rng.uniform(0, 1.3, rows))  # rounded, so that pairs tie
    predicted = watched + rng.normal(0, 10, rows)
    return {
        "user": rng.integers(0, max(rows // 15, 1), rows),
        "watch_time_s": watched,
        "duration_s": duration,
        "explicit": (rng.random(rows) < 0.05).astype(np.float32),
        "long_view": long_view(watched, duration),
        "predicted_s": predicted,
        "score": rng.normal(size=rows),
    }


@pytest.mark.parametrize("rows", [0, 1, 2, 3000])
def test_the_report_has_every_key_and_is_json_as_it_is(rows: int) -> None:
    found = report(**log(rows))
    assert found.keys() == KEYS
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["rows"] == rows


def test_what_cannot_be_computed_is_none_and_never_zero() -> None:
    found: Figures = report(**log(0))
    assert {key for key, value in found.items() if value == 0} == {
        "rows", "users", "users@5", "users@10", "users@5_positive", "users@10_positive",
    }  # fmt: skip
    assert all(value is None for value in found.values() if value != 0)


def test_the_report_holds_what_the_functions_return() -> None:
    rows = log(3000)
    found = report(**rows)
    engagement = neg_at_k(rows["user"], rows["score"], rows["explicit"], 10)
    assert found["mae_s"] == mae_s(rows["predicted_s"], rows["watch_time_s"])
    assert found["gauc_long_view"] == gauc(rows["user"], rows["long_view"], rows["score"])
    assert found["neg@10"] == engagement.weighted_mean
    assert found["neg@10_plain"] == engagement.mean
    assert found["neg@10_positive_users"] == engagement.without_degenerate().weighted_mean
    assert found["users@10"] == len(engagement.users)
    assert found["ds@5_plain"] == ds_at_k(rows["user"], rows["score"], rows["duration_s"], 5).mean
    assert found["neg@10"] != found["neg@10_plain"]
    assert found["xauc"] != found["xauc_strict"]


def test_the_report_is_the_same_whatever_users_are_called() -> None:
    rows = log(300)
    named = rows | {"user": np.array([f"user-{u:03d}" for u in rows["user"]])}
    assert report(**named) == report(**rows)


def test_the_report_refuses_a_diverged_model() -> None:
    rows = log(30)
    rows["predicted_s"][4] = np.nan
    with pytest.raises(BadInput, match=r"`predicted_s` must be finite: 1 of 30 .* nan in row 4"):
        report(**rows)
    with pytest.raises(ValueError, match="with one N"):
        report(**log(30) | {"user": one_user(29)})


def test_calibration_error_is_the_mean_distance_of_bins_of_equally_many_rows() -> None:
    probability = np.array([0.1, 0.2, 0.8, 0.9])
    # Bins (0.1, 0.2) with no positive and (0.8, 0.9) with one: off by 0.15 and 0.35.
    assert ece(np.array([0, 0, 1, 0]), probability, bins=2) == pytest.approx((0.15 + 0.35) / 2)
    assert ece(np.array([0, 0, 1, 1]), np.array([0.0, 0.0, 1.0, 1.0])) == 0
    assert ece(np.zeros(0), np.zeros(0)) is None
