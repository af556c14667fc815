"""WLR: what the odds of each of its three designs mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training import _watch_time_asserts as wt
from tests.training._builders import watch_log
from training.watch_time import WLR, WLRConfig

DESIGNS = ["every", "skips", "below_quantile"]


def config(negatives: str, hidden: int = 64) -> WLRConfig:
    return WLRConfig.model_validate({"negatives": negatives, "hidden": hidden})


def fitted(negatives: str = "every") -> WLR:
    torch.manual_seed(0)
    return WLR(wt.STATE, config(negatives)).fit_tables(wt.heavy_tailed_log(), seed=0)


def only_a_bias(negatives: str) -> tuple[WLR, np.ndarray, np.ndarray]:
    """A head that sees nothing, brought to its optimum on a heavy-tailed log; watch times and durations."""
    torch.manual_seed(0)
    log = wt.heavy_tailed_log()
    head = WLR(1, config(negatives, hidden=0)).fit_tables(log, seed=0)
    state = torch.zeros(len(log), 1)
    wt.fit_exactly(head, state, torch.from_numpy(log.duration_s), torch.from_numpy(log.watch_time_s))
    return head, log.watch_time_s, log.duration_s


def answer(head: WLR) -> float:
    return float(head.seconds(torch.zeros(1, 1), torch.ones(1)).detach())


def test_with_every_exposure_a_negative_the_odds_are_the_mean_watch_time() -> None:
    head, watch, _ = only_a_bias("every")
    assert answer(head) == pytest.approx(watch.mean(), rel=1e-4)


def test_with_skips_as_negatives_the_odds_are_far_above_the_mean() -> None:
    """E[w; watched] / P(skip): the known flaw of this design where most is watched, stated and not mended."""
    head, watch, duration = only_a_bias("skips")
    skipped = watch < np.minimum(3, duration)
    assert 0 < skipped.mean() < 0.5
    want = watch[~skipped].sum() / skipped.sum()
    assert answer(head) == pytest.approx(want, rel=1e-3)
    assert want > 2 * watch.mean()


def test_with_negatives_below_a_quantile_what_short_watches_add_is_missing() -> None:
    head, watch, _ = only_a_bias("below_quantile")
    long = watch > np.quantile(watch, 0.6)
    assert answer(head) == pytest.approx((watch * long).mean(), rel=1e-3)
    assert answer(head) < watch.mean()


def test_the_mean_of_each_kind_of_row_is_learned() -> None:
    kind = torch.arange(600) % 3
    watch = torch.tensor([2.0, 15.0, 80.0])[kind] * torch.rand(
        600, generator=torch.Generator().manual_seed(0)
    )
    duration = torch.full((600,), 60.0)
    head = WLR(3, config("every", hidden=0)).fit_tables(watch_log(watch.numpy(), duration.numpy()), seed=0)
    wt.fit_exactly(head, torch.eye(3)[kind], duration, watch)
    got = head.seconds(torch.eye(3), duration[:3]).detach()
    want = torch.stack([watch[kind == k].mean() for k in range(3)])
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


def test_a_short_video_watched_whole_is_no_skip() -> None:
    head = WLR(1, config("skips", hidden=0)).fit_tables(watch_log([1.0, 2.0], [2.0, 2.0]), seed=0)
    positive, negative = head._roles(torch.full((2,), 2.0), torch.tensor([1.0, 2.0]))
    assert positive.tolist() == [0.0, 1.0]
    assert negative.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("negatives", DESIGNS)
def test_predicts_nothing_longer_than_the_longest_watch(negatives: str) -> None:
    state, duration = wt.states(10)
    head = fitted(negatives)
    assert head.seconds(1e4 * state, duration).max() <= wt.heavy_tailed_log().watch_time_s.max()
