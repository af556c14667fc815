"""CWM: its link, what censoring teaches, and a planted interest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training import _watch_time_asserts as wt
from tests.training._builders import watch_log
from training.watch_time import CWM, CWMConfig
from training.watch_time._cwm import counterfactual_s, interest_logit


@pytest.fixture
def fitted() -> CWM:
    torch.manual_seed(0)
    return CWM(wt.STATE).fit_tables(wt.heavy_tailed_log(), seed=0)


@pytest.mark.parametrize("cost", [12.0, 40.0])
def test_the_link_and_its_inverse_round_trip(cost: float) -> None:
    watch = torch.cat([torch.zeros(1), torch.logspace(-2, 4, 200)])
    logit = interest_logit(watch, cost)
    assert (logit.diff() > 0).all()
    torch.testing.assert_close(counterfactual_s(logit, cost), watch, rtol=1e-4, atol=1e-4)


def test_the_inverse_keeps_its_digits_for_strong_interest() -> None:
    logit = torch.linspace(-30, 12, 300)
    want = 40 / np.logaddexp(0, -logit.double().numpy()) - 1
    np.testing.assert_allclose(counterfactual_s(logit, 40.0).numpy(), want, rtol=2e-6, atol=2e-6)


def bias_head(config: CWMConfig | None = None) -> CWM:
    """s = bias, in units of the logit itself."""
    head = CWM(1, (config or CWMConfig()).model_copy(update={"hidden": 0}))
    head.fit_tables(wt.heavy_tailed_log(), seed=0)
    head.shift.zero_()
    head.spread.fill_(1.0)
    return head


def loss_at(logit: Tensor, watch: float, duration: float) -> Tensor:
    """The loss of one row as a function of s."""
    head = bias_head()
    out = []
    with torch.no_grad():
        for value in logit:
            head.net.bias.fill_(float(value))  # type: ignore[operator]
            out.append(head.loss(torch.zeros(1, 1), torch.tensor([duration]), torch.tensor([watch])))
    return torch.stack(out)


@pytest.mark.parametrize("watch", [30.0, 75.0])
def test_a_complete_play_wants_more_interest_without_end(watch: float) -> None:
    """At the end or looped: both say no more than at least."""
    assert (loss_at(torch.linspace(-8, 8, 60), watch, 30.0).diff() < 0).all()


def test_a_play_that_ended_early_wants_the_interest_that_it_is_worth() -> None:
    logit = torch.linspace(-5, -2, 301)
    best = logit[loss_at(logit, 10.0, 30.0).argmin()]
    assert float(best) == pytest.approx(float(interest_logit(torch.tensor(10.0), 40.0)), abs=0.011)


def test_completing_a_longer_video_means_more_interest() -> None:
    """The same mix of early ends and complete plays, the complete ones of longer and longer videos."""
    found = []
    for longer in (20.0, 60.0, 200.0):
        head = bias_head()
        watch = torch.tensor([5.0, 10.0, longer, longer])
        duration = torch.tensor([300.0, 300.0, longer, longer])
        wt.fit_exactly(head, torch.zeros(4, 1), duration, watch)
        found.append(float(head.interest_logit(torch.zeros(1, 1)).detach()))
    assert found[0] < found[1] < found[2]


def test_no_prediction_is_above_the_duration(fitted: CWM) -> None:
    state, duration = wt.states(500)
    for stretch in (1, 100):
        assert (fitted.seconds(stretch * state, duration) <= duration).all()


def test_the_duration_cuts_and_does_nothing_else(fitted: CWM) -> None:
    state, _ = wt.states(100)
    endless = fitted.seconds(state, torch.full((100,), 1e9))
    torch.testing.assert_close(fitted.seconds(state, torch.full((100,), 20.0)), endless.clamp(max=20))


def test_both_kinds_of_rows_have_a_mean_of_their_own() -> None:
    watch, duration = torch.tensor([5.0, 8.0, 9.0, 30.0]), torch.full((4,), 30.0)
    state = torch.zeros(4, 1)

    def loss(separate: bool, rows: slice) -> Tensor:
        head = bias_head(CWMConfig(separate_means=separate))
        with torch.no_grad():
            head.net.bias.zero_()  # type: ignore[operator]
        return head.loss(state[rows], duration[rows], watch[rows]).detach()

    early, end = loss(False, slice(0, 3)), loss(False, slice(3, 4))
    torch.testing.assert_close(loss(True, slice(0, 4)), early + end)
    torch.testing.assert_close(loss(False, slice(0, 4)), (3 * early + end) / 4)
    assert loss(True, slice(0, 3)).isfinite()
    assert loss(True, slice(3, 4)).isfinite()


def test_finds_the_planted_interest_beyond_what_was_seen() -> None:
    """Watch times made by its own link, half of them cut by the end of the video."""
    rng = np.random.default_rng(0)
    interest = rng.normal(size=2000)
    logit = torch.from_numpy(interest.astype(np.float32))
    true_s = counterfactual_s(logit, 12.0).clamp(min=0.1)
    noise = torch.from_numpy(np.exp(0.2 * rng.normal(size=2000)).astype(np.float32))
    duration = torch.from_numpy(rng.uniform(5, 40, 2000).astype(np.float32))
    watch = (true_s * noise).minimum(duration)
    head = CWM(1, CWMConfig(hidden=0, cost=12.0, sigma=0.3, separate_means=False))
    head.fit_tables(watch_log(watch.numpy(), duration.numpy()), seed=0)
    wt.fit_exactly(head, logit[:, None], duration, watch)
    cut = watch >= duration
    assert 0.2 < cut.float().mean() < 0.8
    endless = head.seconds(logit[:, None], torch.full_like(duration, 1e6)).detach()
    assert ((endless / true_s).log().abs()[cut]).median() < 0.2
    assert (duration / true_s).log().abs()[cut].median() > 0.4  # what a plain regression would learn
