"""The rank in the loss: what it is least at, and that it pulls where the median does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training._builders import watch_log
from tests.training._watch_time_asserts import TINY_LDA, heavy_tailed_log, states
from training.lda import LDA, LDAConfig
from training.watch_time import VR, VRConfig
from training.watch_time._losses import RankError, RankLoss

WATCHED = heavy_tailed_log(4000).watch_time_s
each_error = pytest.mark.parametrize("error", ["squared", "cross_entropy"])


def rank_loss(error: RankError = "squared") -> RankLoss:
    return RankLoss(error).fit(WATCHED)


@given(st.integers(0, 3999), st.integers(0, 3999))
def test_it_is_the_squared_distance_of_the_shares_watched_no_longer(i: int, j: int) -> None:
    a, b = WATCHED[i], WATCHED[j]
    share = [(x >= WATCHED).mean() for x in (a, b)]
    found = float(rank_loss()(torch.tensor([a]), torch.tensor([b])))
    assert found == pytest.approx((share[0] - share[1]) ** 2, abs=0.04)


def test_it_is_0_where_prediction_and_label_agree_and_never_more_than_1() -> None:
    loss, watched = rank_loss(), torch.from_numpy(WATCHED)
    assert float(loss(watched, watched)) == 0.0
    assert float(loss(torch.zeros(1), torch.tensor([1e6]))) <= 1.0


@each_error
def test_its_best_constant_is_a_middle_rank(error: RankError) -> None:
    """Least at the mean rank, and that is the median's, whatever the tail."""
    loss, watched = rank_loss(error), torch.from_numpy(WATCHED)
    tried = torch.linspace(0, 200, 801)
    found = [float(loss(t.expand_as(watched), watched)) for t in tried]
    best = float(tried[int(np.argmin(found))])
    assert abs((best >= WATCHED).mean() - 0.5) < 0.05


@given(st.integers(0, 3999), st.floats(0, 1e4))
def test_the_cross_entropy_of_the_ranks_is_least_where_they_agree(i: int, other: float) -> None:
    loss, at = rank_loss("cross_entropy"), torch.tensor([WATCHED[i]])
    assert float(loss(at, at)) <= float(loss(torch.tensor([other]), at)) + 1e-5


def test_the_cross_entropy_of_a_prediction_beyond_every_row_is_finite() -> None:
    found = rank_loss("cross_entropy")(torch.tensor([0.0, 1e6]), torch.tensor([1e6, 0.0]))
    assert found.isfinite()


@each_error
def test_rows_of_one_median_differ_by_their_tails(error: RankError) -> None:
    """Most of both watch 9.5 s, the others 0 s or 100 s: absolute error sees one median, ranks do not."""
    low = torch.tensor([9.5, 9.5, 9.5, 0.0, 0.0])
    high = torch.tensor([9.5, 9.5, 9.5, 100.0, 100.0])
    loss = RankLoss(error).fit(torch.cat([low, high]).numpy().repeat(50))
    tried = torch.linspace(0, 30, 601)

    def least(rows: torch.Tensor, rank: float) -> float:
        of = [
            float((t - rows).abs().mean()) / 20 + rank * float(loss(t.expand_as(rows), rows)) for t in tried
        ]
        return float(tried[int(np.argmin(of))])

    assert least(low, 0.0) == pytest.approx(least(high, 0.0), abs=0.06)
    assert least(low, 8.0) < least(high, 8.0) - 0.2


def test_both_heads_that_have_it_learn_from_it() -> None:
    log = heavy_tailed_log()
    state, duration = states(64)
    small = LDAConfig.model_validate(TINY_LDA)
    watched = torch.from_numpy(log.watch_time_s[:64])
    for plain, ranked in (
        (VR(16, VRConfig(loss="l1")), VR(16, VRConfig(loss="l1", rank=5.0))),
        (LDA(16, small.model_copy(update={"rank": 0.0})), LDA(16, small.model_copy(update={"rank": 5.0}))),
    ):
        plain.fit_tables(log, seed=0)
        ranked.fit_tables(log, seed=0)
        ranked.load_state_dict(plain.state_dict())
        with torch.no_grad():
            more, less = (head.loss(state, duration, watched) for head in (ranked, plain))
        assert float(more) > float(less)


def test_a_log_of_one_watch_time_is_no_error() -> None:
    loss = RankLoss().fit(watch_log([5.0] * 10, [10.0] * 10).watch_time_s)
    found = loss(torch.tensor([3.0, 5.0, 8.0], requires_grad=True), torch.full((3,), 5.0))
    assert found.isfinite()
