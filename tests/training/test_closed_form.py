"""LabelCraft in closed form: exact where it can be checked by hand, and better labels on a planted world."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.arrays import F32, I64
from models.errors import BadInput
from models.features import FEEDBACK_COLUMNS
from models.metrics import auc
from tests.training._asserts import assert_exports
from tests.training._builders import liked_and_hated, log_of
from training.data import (
    Interactions,
    LikesHates,
    SyntheticConfig,
    day_numbers,
    read_likes_hates,
    simulate_log,
)
from training.encoders import slates
from training.labelcraft import OBJECTIVES, Candidates, Objective, no_skips
from training.labelcraft.closed_form import (
    ClosedFormConfig,
    Composite,
    LabelSurface,
    LearnedSurface,
    RidgeWindow,
    Sheet,
    learn_labels,
    learn_surface,
    objectives_of,
    ridge_windows,
)
from training.labelcraft.closed_form._drawn_users import draw_users
from training.labelcraft.closed_form._lagged_features import lagged_features, with_products
from training.labelcraft.closed_form._likes_above_hates import LikesHatesObjective
from training.labels import labels_of

SMALL = ClosedFormConfig(
    watch_knots=9, duration_knots=5, k=3, steps=25, window_days=1, ridge=300.0, redraws=1, objectives="paper"
)
SIMULATED = SyntheticConfig(users=150, videos=200, exposures=9000, days=6, policy=0.2)
SEEDS = (0, 1, 2)


@cache
def planted(seed: int = 0) -> tuple[Interactions, I64]:
    dataset = simulate_log(SIMULATED, seed=seed).dataset()
    log = dataset.interactions(dataset.vocabulary())
    return log, day_numbers(log.timestamp_ms, dataset.info.utc_offset_hours)


@cache
def windows(seed: int = 0, gradient: str = "exact") -> list[RidgeWindow]:
    log, day = planted(seed)
    config = small(gradient=gradient)
    return ridge_windows(log, day, LabelSurface(config).fit(log), config)


@cache
def learned(seed: int = 0, draws: int = 0, **changes: Any) -> LearnedSurface:
    """Labels learned on all windows but the last."""
    config = small(**changes)
    log, _ = planted(seed)
    known = windows(seed, config.gradient)[:-1]
    return learn_surface(log, known, LabelSurface(config).fit(log), config, seed=draws)


def small(**changes: Any) -> ClosedFormConfig:
    return SMALL.model_copy(update=changes)


def composite(surface: LabelSurface, seed: int = 0) -> float:
    """Of the last window's slates."""
    last = windows(seed)[-1]
    evaluator = Composite([window.candidates for window in windows(seed)], OBJECTIVES, SMALL.k)
    return float(evaluator.of_scores(last.candidates, last.scores(surface.table)).mean())


def feedback(watched_s: F32, duration_s: float, sheet: Sheet) -> torch.Tensor:
    rows = torch.zeros(len(watched_s), len(FEEDBACK_COLUMNS))
    rows[:, 0], rows[:, 1] = torch.from_numpy(watched_s), duration_s
    rows[:, FEEDBACK_COLUMNS.index("like")] = float(sheet is Sheet.EXPLICIT)
    rows[:, FEEDBACK_COLUMNS.index("hate")] = float(sheet is Sheet.HATE)
    return rows


def test_scores_are_those_of_the_ridge_regression_on_the_labels() -> None:
    log, day = planted()
    surface = LabelSurface(SMALL).fit(log)
    surface.table.copy_(torch.rand(surface.table.shape, generator=torch.Generator().manual_seed(1)))
    first = int(day.max())
    known, held_out = np.flatnonzero(day < first), np.flatnonzero(day == first)
    z_NF = with_products(lagged_features(log, day, int(day.min()) + 2))
    penalty = SMALL.ridge * np.diag([0.0] + [1.0] * (z_NF.shape[1] - 1))
    z_BF = z_NF[known]
    weights_F = np.linalg.solve(z_BF.T @ z_BF + penalty, z_BF.T @ labels_of(surface, log)[known])
    by_hand = z_NF[held_out] @ weights_F
    window = windows()[-1]
    scores = window.scores(surface.table)[window.candidates.mask].numpy()
    assert len(scores) > 100
    assert max(np.abs(by_hand - score).min() for score in scores) < 1e-5


def test_labels_are_the_basis_times_the_table() -> None:
    log = log_of([0, 0, 1, 1, 1], [1, 2, 1, 2, 3])
    surface = LabelSurface(SMALL).fit(log)
    surface.table.copy_(torch.rand(surface.table.shape))
    expected = surface.basis(log) @ surface.table.reshape(-1).numpy()
    np.testing.assert_allclose(labels_of(surface, log), expected, atol=1e-6)


def test_features_of_a_day_know_only_the_days_before() -> None:
    log, day = planted()
    changed = day >= day.max() - 1
    other = log.feedback.copy()
    other[changed, 0] = 0.0
    later = replace(log, feedback=other)
    scaled_before = int(day.min()) + 2
    before, after = lagged_features(log, day, scaled_before), lagged_features(later, day, scaled_before)
    same = (before == after).all(axis=1)
    assert same[day < day.max()].all()
    assert not same[day == day.max()].all()


@given(duration_s=st.floats(1, 600), monotone_in=st.sampled_from(list(Sheet)))
def test_a_label_never_falls_when_more_is_watched(duration_s: float, monotone_in: Sheet) -> None:
    watched_s = np.linspace(0, 700, 200, dtype=np.float32)
    label = learned().label_maker(feedback(watched_s, duration_s, monotone_in))
    assert (label.diff() >= -1e-6).all()


@given(duration_s=st.floats(1, 600))
def test_a_like_is_never_below_the_same_watch_and_a_hate_below_any_skip(duration_s: float) -> None:
    watched_s = np.linspace(0, 700, 200, dtype=np.float32)
    plain, like, hate = (learned().label_maker(feedback(watched_s, duration_s, sheet)) for sheet in Sheet)
    assert (like >= plain - 1e-6).all()
    assert (hate < plain).all()
    assert hate.max() <= plain[0] + 1e-6


ARMS: dict[str, dict[str, Any]] = {
    "exact": {},
    "one_step": {"gradient": "one_step"},
    "shuffled": {"gradient": "shuffled"},
    "frozen": {"steps": 0},
}


@pytest.mark.slow
def test_learned_labels_serve_later_days_better_than_their_start_and_shuffled_gradients() -> None:
    """Over seeds: one world's last day has few users."""
    found = {
        arm: np.mean([composite(learned(seed, **changes).label_maker, seed) for seed in SEEDS])
        for arm, changes in ARMS.items()
    }
    assert found["exact"] > 1.02 * found["frozen"]
    assert found["exact"] > found["shuffled"]
    assert found["one_step"] > found["frozen"]


def test_the_distance_is_of_the_labels_and_0_without_a_step() -> None:
    still, moved = learned(steps=0), learned()
    assert still.distance == pytest.approx(0.0, abs=1e-6)
    assert not still.curve
    assert moved.distance > 0.1
    assert moved.curve[-1] > moved.curve[0]


@pytest.mark.parametrize("gradient", ["one_step", "shuffled"])
def test_another_gradient_changes_how_labels_are_learned_not_what_is_scored(gradient: str) -> None:
    table = torch.rand(SMALL.watch_knots, SMALL.duration_knots, len(Sheet), requires_grad=True)
    slopes = []
    for window in (windows()[-1], windows(gradient=gradient)[-1]):
        scores = window.scores(table)
        torch.testing.assert_close(scores, windows()[-1].scores(table), rtol=1e-4, atol=1e-4)
        slopes.append(torch.autograd.grad(scores.square().sum(), table)[0].flatten())
    assert torch.cosine_similarity(slopes[0], slopes[1], dim=0) < 0.99


def test_one_step_gradients_are_those_of_a_step_of_gradient_descent() -> None:
    """From any weights, a change of the labels c moves the scores of held-out rows by η Z_test Z'B c."""
    log, day = planted()
    window, last = windows(gradient="one_step")[-1], int(day.max())
    z_NF = with_products(lagged_features(log, day, int(day.min()) + 2))
    known, held_out = np.flatnonzero(day < last), np.flatnonzero(day == last)
    distinct = np.unique(slates(log, held_out, more_than=SMALL.k).rows)
    basis = LabelSurface(SMALL).fit(log).basis(log)[known]
    by_hand = z_NF[distinct] @ (basis.T @ z_NF[known]).T
    assert window.gradient is not None
    rate = float(window.response.norm()) / np.linalg.norm(by_hand)
    np.testing.assert_allclose(window.gradient.numpy(), rate * by_hand, atol=1e-5)


def test_draws_are_of_whole_users_and_the_first_is_of_all_as_they_are() -> None:
    both = windows()[-2:]
    parts = draw_users(both, 3, seed=0)
    draw = torch.cat([part.draw[:, 0] for part in parts])
    weight = torch.cat([part.weight for part in parts])
    torch.testing.assert_close(torch.zeros(3).index_add(0, draw, weight), torch.ones(3))
    users = sum(len(window.user) for window in both)
    assert (draw == 0).sum() == users
    torch.testing.assert_close(weight[draw == 0], torch.full((users,), 1 / users))
    table_BT = torch.rand(3, SMALL.watch_knots * SMALL.duration_knots * len(Sheet))
    score_BR = torch.cat([window.scores_of_rows(table_BT) for window in both], dim=1)
    found = torch.cat([part.scores(score_BR)[part.candidates.mask & (part.draw == 0)] for part in parts])
    alone = torch.cat([window.scores(table_BT[0])[window.candidates.mask] for window in both])
    torch.testing.assert_close(found.sort().values, alone.sort().values)


def test_all_users_as_they_are_know_no_seed_and_redrawn_ones_do() -> None:
    one, several = (
        [learned(draws=seed, redraws=redraws, steps=8).label_maker.table for seed in (1, 2)]
        for redraws in (1, 3)
    )
    assert torch.equal(*one)
    assert 0 < (several[0] - several[1]).abs().max() < 0.5
    assert (several[0] - one[0]).abs().max() > 0


@pytest.mark.parametrize("objectives", [None, {"usage_time": OBJECTIVES["usage_time"]}])
def test_one_call_learns_from_a_log(objectives: dict[str, Objective] | None) -> None:
    log, day = planted()
    config = small(steps=2)
    found = learn_labels(log, day, config, objectives=objectives)
    by_hand = learn_surface(log, windows(), LabelSurface(config).fit(log), config, objectives=objectives)
    torch.testing.assert_close(found.label_maker.table, by_hand.label_maker.table)


def longest_watch(slate_weight_UC: torch.Tensor, candidates: Candidates) -> torch.Tensor:
    return (slate_weight_UC * candidates.watch_time).amax(-1)


def nothing(slate_weight_UC: torch.Tensor, _: Candidates) -> torch.Tensor:
    return 0.0 * slate_weight_UC.sum(-1)


def test_objectives_of_ones_own_stand_beside_those_of_the_config() -> None:
    log, day = planted()
    config = small(steps=2)
    found = learn_labels(log, day, config, further=[longest_watch, no_skips])
    named = {**OBJECTIVES, "longest_watch": longest_watch, "no_skips": no_skips}
    assert list(objectives_of(config, [longest_watch, no_skips])) == list(named)
    by_hand = learn_labels(log, day, config, objectives=named).label_maker.table
    without = learn_labels(log, day, config).label_maker.table
    assert torch.equal(found.label_maker.table, by_hand)
    assert not torch.equal(found.label_maker.table, without)
    with pytest.raises(BadInput, match="two objectives are called 'usage_time'"):
        learn_labels(log, day, config, further=[OBJECTIVES["usage_time"]])


def test_an_objective_without_a_deviation_changes_nothing_and_is_named() -> None:
    log, day = planted()
    config = small(steps=2)
    found, without = (learn_labels(log, day, config, further=further) for further in ([nothing], []))
    assert found.left_out == ("nothing",)
    assert torch.equal(found.label_maker.table, without.label_maker.table)
    with pytest.raises(BadInput, match="nothing: the same of all slates"):
        Composite([windows()[-1].candidates], {"nothing": nothing}, 3)


@pytest.mark.parametrize(("window_days", "left_out"), [(1, ("next_day_return",)), (2, ())])
def test_returns_can_be_an_objective_where_a_window_has_more_days_than_one(
    window_days: int, left_out: tuple[str, ...]
) -> None:
    log, day = planted()
    config = small(steps=2, window_days=window_days, next_day_return=True)
    with_return = learn_labels(log, day, config)
    assert with_return.left_out == left_out
    without = learn_labels(log, day, config.model_copy(update={"next_day_return": False}))
    same = torch.equal(with_return.label_maker.table, without.label_maker.table)
    assert same == (window_days == 1)


def test_a_window_knows_of_no_return_on_the_days_it_is_kept_from() -> None:
    log, day = planted()
    config = small(window_days=2)
    first, last = ridge_windows(log, day, LabelSurface(config).fit(log), config)[-2:]
    before = first.as_known_before(last.first_day)
    known = ~before.candidates.returned.isnan() & before.candidates.mask
    assert (before.day[known] + 1 < last.first_day).all()
    assert known.any()


@pytest.fixture
def likes_hates(tmp_path: Path) -> LikesHates:
    liked_and_hated(rows=2000, users=40).write_parquet(tmp_path / "rows.parquet")
    return read_likes_hates(tmp_path)


def learned_from(rows: LikesHates | None, weight: float, steps: int = 5) -> LabelSurface:
    log, _ = planted()
    config = small(likes_hates_weight=weight, steps=steps)
    return learn_surface(
        log, windows()[:-1], LabelSurface(config).fit(log), config, likes_hates=rows
    ).label_maker


def test_likes_are_labelled_above_hates_by_users_it_was_not_learned_from(likes_hates: LikesHates) -> None:
    held_out = likes_hates.halves()[1]
    without, learned = (
        auc(held_out.liked, labels_of(learned_from(likes_hates, weight, 15), held_out.log))
        for weight in (0, 10)
    )
    assert without is not None
    assert learned is not None
    assert learned > without + 0.03


def test_likes_and_hates_of_weight_0_change_no_label(likes_hates: LikesHates) -> None:
    without, of_weight_0 = learned_from(None, 1.0), learned_from(likes_hates, 0.0)
    assert torch.equal(without.table, of_weight_0.table)


def test_the_held_out_half_of_the_likes_and_hates_is_never_read(likes_hates: LikesHates) -> None:
    def changed(half: int) -> LikesHates:
        user = np.unique(likes_hates.halves()[half].log.user)
        rows = np.isin(likes_hates.log.user, user)
        feedback = likes_hates.log.feedback.copy()
        feedback[rows, 0] *= 0.1
        log = replace(likes_hates.log, feedback=feedback)
        return replace(likes_hates, log=log, liked=likes_hates.liked ^ rows)

    table, learning, held_out = (
        learned_from(rows, 10.0).table for rows in (likes_hates, changed(0), changed(1))
    )
    assert torch.equal(table, held_out)
    assert not torch.equal(table, learning)


def test_pairs_of_a_like_and_a_hate_know_the_watch_alone(likes_hates: LikesHates) -> None:
    surface = LabelSurface(SMALL).fit(planted()[0])
    table = torch.rand(2, *surface.table.shape, requires_grad=True)
    LikesHatesObjective(likes_hates, surface)(table).sum().backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None
    assert table.grad[..., Sheet.PLAIN].abs().sum() > 0
    assert not table.grad[..., [Sheet.EXPLICIT, Sheet.HATE]].any()


@pytest.mark.slow
def test_its_graph_answers_as_torch_and_keeps_the_order_on_a_grid(tmp_path: Path) -> None:
    maker = learned().label_maker
    watched_s = np.linspace(0, 700, 150, dtype=np.float32)
    graph = assert_exports(maker, feedback(watched_s, 30.0, Sheet.EXPLICIT), tmp_path)
    for duration_s in (1.0, 8.0, 30.0, 95.0, 600.0):
        rows = [feedback(watched_s, duration_s, sheet) for sheet in Sheet]
        plain, like, hate = (graph.run(None, {"feedback": part.numpy()})[0] for part in rows)
        for label, part in zip((plain, like, hate), rows, strict=True):
            np.testing.assert_allclose(label, maker(part).numpy(), rtol=0, atol=1e-6)
            assert (np.diff(label) >= -1e-6).all()
        assert (like >= plain - 1e-6).all()
        assert (hate < plain).all()
        assert hate.max() <= plain[0] + 1e-6


def test_labels_fill_0_to_1_and_no_rows_have_none() -> None:
    surface = learned().label_maker
    assert surface.table.min() == 0.0
    assert surface.table.max() == 1.0
    assert surface(torch.zeros(0, len(FEEDBACK_COLUMNS))).shape == (0,)


@pytest.mark.parametrize(
    ("rows", "message"),
    [(lambda day: day == day.min(), "needs as many before"), (lambda day: day < 0, "there are no rows")],
)
def test_a_log_that_is_too_short_is_refused(rows: object, message: str) -> None:
    log, day = planted()
    kept = np.flatnonzero(rows(day))  # type: ignore[operator]  # a function of the days
    with pytest.raises(BadInput, match=message):
        ridge_windows(log.take(kept), day[kept], LabelSurface(SMALL).fit(log.take(kept)), SMALL)
