"""CREAD: its thresholds, and the three parts of its loss."""

# Shape suffixes: N exposures, M thresholds.

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from tests.training import _watch_time_asserts as wt
from tests.training._builders import watch_log
from training.watch_time import CREAD, CREADConfig
from training.watch_time._cread import _BENDS, error_bound, out_of_order, shares


def fitted(config: CREADConfig | None = None) -> CREAD:
    torch.manual_seed(0)
    return CREAD(wt.STATE, config).fit_tables(wt.heavy_tailed_log(), seed=0)


def test_has_a_distribution_even_where_its_probabilities_rise() -> None:
    head = fitted()
    assert (head.logits(wt.states(400)[0]).diff(dim=-1) > 0).any(-1).float().mean() > 0.5
    wt.assert_is_a_distribution(head)


@pytest.mark.parametrize("bend", [0.0, 1e-3, 1.0, 8.0])
def test_shares_rise_within_0_and_1(bend: float) -> None:
    share = shares(50, bend)
    assert (np.diff(share, prepend=0, append=1) > 0).all()


def test_without_a_bend_shares_are_equal_and_with_one_they_gather_at_long_watch_times() -> None:
    np.testing.assert_allclose(shares(4, 0.0), [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(shares(4, 1e-6), shares(4, 0.0), atol=1e-6)
    z = np.arange(1, 5) / 5
    np.testing.assert_allclose(shares(4, 2.0), (1 - np.exp(-2 * z)) / (1 - np.exp(-2.0)))
    assert (shares(50, 4.0) > shares(50, 1.0)).all()


def test_a_bend_makes_the_parts_of_a_heavy_tail_more_even() -> None:
    longest = wt.heavy_tailed_log().watch_time_s.max()

    def widest(bend: float) -> float:
        edge_s = fitted(CREADConfig(bend=bend)).parts.edge_s[:-1].numpy()
        return float(np.diff(edge_s, append=longest).max())

    assert widest(4.0) < widest(0.0)


def test_the_bend_is_the_one_with_the_least_bound() -> None:
    head, watch = fitted(), wt.heavy_tailed_log().watch_time_s
    bound = [error_bound(watch, shares(50, a), 100) for a in _BENDS]
    assert float(head.bend) == pytest.approx(_BENDS[int(np.argmin(bound))])
    assert float(fitted(CREADConfig(bend=1.5)).bend) == 1.5


def test_the_longer_the_tail_the_larger_the_bend() -> None:
    quantile = (np.arange(4000) + 0.5) / 4000
    even, tail = 30 * quantile, 3 / (1 - quantile) ** 0.8
    found = []
    for watch in (even, tail):
        log = watch_log(watch, np.full(4000, 60.0))
        found.append(float(CREAD(1).fit_tables(log, seed=0).bend))
    assert found[0] < found[1]


def test_rows_to_learn_from_are_worth_finer_thresholds() -> None:
    """Many rows a prediction leave only the error of restoring, which falls with the bend of a tail."""
    watch = wt.heavy_tailed_log().watch_time_s

    def best(alike: int) -> float:
        return float(min(_BENDS, key=lambda a: error_bound(watch, shares(50, a), alike)))

    assert best(10) < best(100_000)


def test_before_learning_it_predicts_the_distribution_of_all_rows() -> None:
    head = fitted(CREADConfig(hidden=0))
    with torch.no_grad():
        for parameter in head.net.parameters():
            parameter.zero_()
    watch = torch.from_numpy(wt.heavy_tailed_log().watch_time_s)
    above = head.logits(torch.zeros(1, wt.STATE)).sigmoid()[0]
    torch.testing.assert_close(above, head.parts.is_above(watch).mean(0), rtol=0, atol=0.01)


def test_rising_probabilities_are_penalised_by_how_much_they_rise() -> None:
    assert out_of_order(torch.tensor([[0.9, 0.5, 0.5, 0.1]])) == 0
    rising = torch.tensor([[0.9, 0.5, 0.7, 0.1], [0.2, 0.3, 0.2, 0.6]])
    torch.testing.assert_close(out_of_order(rising), torch.tensor((0.2 + 0.5) / 2))


def test_the_loss_is_the_sum_of_its_three_parts() -> None:
    state, duration = wt.states(60)
    watch = torch.from_numpy(wt.heavy_tailed_log().watch_time_s[:60])
    head = fitted(CREADConfig(restoration=0.7, order=0.3))
    with torch.no_grad():
        above = head.logits(state).sigmoid()
        classes = binary_cross_entropy(above, head.parts.is_above(watch))
        error = ((head.seconds(state, duration) - watch) / head.scale).abs()
        huber = torch.where(error < 1, error.square() / 2, error - 0.5).mean()
        want = classes + 0.7 * huber + 0.3 * out_of_order(above)
        torch.testing.assert_close(head.loss(state, duration, watch), want)


def test_the_penalty_brings_the_probabilities_into_order() -> None:
    state, duration = wt.states(100)
    watch = duration.clamp(max=50)

    def rises(order: float) -> float:
        head = fitted(CREADConfig(restoration=0, order=order))
        adam = torch.optim.Adam(head.parameters(), lr=1e-2)
        for _ in range(20):
            adam.zero_grad()
            head.loss(state, duration, watch).backward()  # type: ignore[no-untyped-call]
            adam.step()
        return float(out_of_order(head.logits(state).sigmoid()).detach())

    assert rises(10.0) < 0.5 * rises(0.0)
