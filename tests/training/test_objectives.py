"""The three objectives, by hand and by what they must reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.features import FEEDBACK_COLUMNS
from training.data import returned_next_day
from training.labelcraft._objectives import (
    OBJECTIVES,
    Candidates,
    Objective,
    author_diversity,
    duration_spread,
    engagement,
    net_feedback,
    next_day_return,
    no_skips,
    relative_usage,
    usage_time,
)


def candidates(duration_UC: Tensor) -> Candidates:
    g = torch.Generator().manual_seed(0)
    return Candidates(
        watch_time=torch.rand(duration_UC.shape, generator=g, dtype=duration_UC.dtype),
        duration=duration_UC,
        explicit=(torch.rand(duration_UC.shape, generator=g) < 0.3).to(duration_UC.dtype),
        author=torch.zeros(duration_UC.shape, dtype=torch.int64),
        feedback=torch.zeros(*duration_UC.shape, 8),
        returned=torch.full_like(duration_UC, torch.nan),
        mask=torch.ones_like(duration_UC, dtype=torch.bool),
    )


def hard(chosen: list[int], size: int) -> Tensor:
    weight = torch.zeros(1, size, dtype=torch.float64)
    weight[0, chosen] = 1 / len(chosen)
    return weight


def test_on_a_hard_choice_they_are_mean_and_standard_deviation_of_the_slate() -> None:
    slate = candidates(torch.rand(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    chosen = [0, 2, 5]
    weight = hard(chosen, 6)
    torch.testing.assert_close(usage_time(weight, slate)[0], slate.watch_time[0, chosen].mean())
    torch.testing.assert_close(engagement(weight, slate)[0], slate.explicit[0, chosen].mean())
    torch.testing.assert_close(duration_spread(weight, slate)[0], slate.duration[0, chosen].std(correction=0))


def test_the_spread_rewards_different_durations_not_long_ones() -> None:
    """The released expression prefers the k longest."""
    slate = candidates(torch.tensor([[0.9] * 5 + [1.0] * 5 + [0.1] * 5], dtype=torch.float64))
    longest, mixed = hard(list(range(10)), 15), hard([*range(5, 10), *range(10, 15)], 15)
    assert float(duration_spread(longest, slate)) == pytest.approx(0.05)
    assert float(duration_spread(mixed, slate)) == pytest.approx(0.45)


def test_a_slate_of_one_duration_has_no_spread_and_a_finite_gradient() -> None:
    slate = candidates(torch.full((2, 4), 0.3, dtype=torch.float64))
    weight = torch.full((2, 4), 0.25, dtype=torch.float64, requires_grad=True)
    out = duration_spread(weight, slate)
    (grad,) = torch.autograd.grad(out.sum(), weight)
    assert out.tolist() == [0.0, 0.0]
    assert float(grad.abs().max()) == 0.0


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_gradients_are_right(name: str) -> None:
    slate = candidates(torch.rand(3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    weight = torch.full((3, 5), 0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: OBJECTIVES[name](p, slate), (weight,))


def test_padding_is_not_read() -> None:
    slate = candidates(torch.rand(1, 4, dtype=torch.float64))
    weight = torch.tensor([[0.5, 0.5, 0.0, 0.0]], dtype=torch.float64)
    changed = slate._replace(duration=slate.duration + torch.tensor([0.0, 0.0, 9.0, 9.0]))
    for objective in OBJECTIVES.values():
        torch.testing.assert_close(objective(weight, slate), objective(weight, changed))


def test_no_skips_is_minus_the_share_that_was_left_within_three_seconds_or_the_video() -> None:
    slate = candidates(torch.ones(1, 4, dtype=torch.float64))
    slate.feedback[0, :, 0] = torch.tensor([2.9, 3.0, 1.0, 1.0])
    slate.feedback[0, :, 1] = torch.tensor([60.0, 60.0, 1.0, 60.0])
    assert float(no_skips(hard([0, 1, 2, 3], 4), slate)[0]) == pytest.approx(-0.5)


def test_author_diversity_is_the_chance_that_two_positions_differ() -> None:
    slate = candidates(torch.ones(1, 4, dtype=torch.float64))._replace(author=torch.tensor([[7, 7, 8, 9]]))
    assert float(author_diversity(hard([0, 1], 4), slate)[0]) == pytest.approx(0.0)
    assert float(author_diversity(hard([0, 1, 2, 3], 4), slate)[0]) == pytest.approx(1 - (0.25 + 2 / 16))


@pytest.mark.parametrize("objective", [no_skips, author_diversity])
def test_padding_has_no_part_in_an_objective_of_ones_own(objective: Objective) -> None:
    slate = candidates(torch.ones(1, 4, dtype=torch.float64))._replace(author=torch.tensor([[7, 8, 0, 0]]))
    slate.feedback[0, :, 1] = 60.0
    weight = hard([0, 1], 4)
    whole = objective(weight, slate)
    cut = Candidates(*(column[:, :2] for column in slate))
    torch.testing.assert_close(objective(weight[:, :2], cut), whole)


def test_a_return_counts_for_the_days_that_it_followed_and_not_where_it_is_the_rule() -> None:
    returned = torch.tensor([[1.0, 1.0, 0.0, 0.0, torch.nan], [1.0] * 5])
    slate = candidates(torch.ones(2, 5))._replace(returned=returned)
    after_a_return, mixed, unknown = ([0, 1], [0, 2], [4])
    for chosen, gain in ((after_a_return, 0.5), (mixed, 0.0), (unknown, 0.0)):
        weight = torch.zeros(2, 5)
        weight[:, chosen] = 1 / len(chosen)
        assert next_day_return(weight, slate).tolist() == pytest.approx([gain, 0.0])


def test_padding_knows_no_return() -> None:
    slate = candidates(torch.ones(1, 4))._replace(returned=torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
    slate = slate._replace(mask=torch.tensor([[True, True, False, False]]))
    assert float(next_day_return(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), slate)) == pytest.approx(0.5)


def test_the_last_day_of_a_log_does_not_know_who_returns() -> None:
    user, day = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 2, 3, 1, 3, 2])
    np.testing.assert_equal(returned_next_day(user, day), [1, 1, np.nan, 0, np.nan, 0])


def test_the_example_in_the_readme_runs() -> None:
    text = (Path(__file__).parents[2] / "training" / "README.md").read_text()
    code = text.partition("### An objective of one's own")[2].partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    slate = candidates(torch.ones(1, 4, dtype=torch.float64))
    slate.feedback[0, :, 0] = torch.tensor([60.0, 59.0, 90.0, 0.0])
    assert list(names["mine"]) == [*OBJECTIVES, "no_skips", "authors", "long_watches"]
    assert float(names["mine"]["long_watches"](hard([0, 1, 2, 3], 4), slate)[0]) == pytest.approx(0.5)


def test_a_hate_is_worth_less_than_a_skip_and_a_like_more() -> None:
    slate = candidates(torch.rand(1, 3, dtype=torch.float64))
    slate.feedback[0, 0, FEEDBACK_COLUMNS.index("hate")] = 1.0
    slate = slate._replace(explicit=torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64))
    hated, skipped, liked = (float(net_feedback(hard([i], 3), slate)) for i in range(3))
    assert hated < skipped < liked


def test_usage_relative_to_the_user_counts_an_hour_a_day_and_a_minute_a_day_alike() -> None:
    """The user's longest watch is worth 1, and half of it more than a half."""
    slate = candidates(torch.rand(2, 3, dtype=torch.float64))
    slate.feedback[..., 0] = torch.tensor([[600.0, 300.0, 0.0], [60.0, 30.0, 0.0]])
    longest, half, nothing = (relative_usage(hard([i], 3), slate) for i in range(3))
    torch.testing.assert_close(longest, torch.ones(2, dtype=torch.float64))
    assert (half > 0.5).all()
    assert (nothing == 0).all()
