"""Watch-time gain: deviations above the usual watch of videos as long, brought to [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tests.training._builders import watch_log, watched_log
from training.labels import WTG

LOG = watched_log()
FEEDBACK = torch.from_numpy(LOG.feedback)
SECOND = LOG.duration_s.astype(np.int64)


# --- oracle 2: mean 0 and deviation 1 in every bucket, a single row in the middle, Φ inside (0, 1)


def test_in_every_second_of_duration_the_gain_has_mean_0_and_deviation_1() -> None:
    gain = WTG().fit(LOG).gain(FEEDBACK).numpy()
    played = np.minimum(LOG.watch_time_s, LOG.duration_s)
    checked = 0
    for second in np.unique(SECOND):
        mine = second == SECOND
        if mine.sum() >= 2:
            varies = float(np.ptp(played[mine]) > 0)
            assert gain[mine].mean() == pytest.approx(0, abs=1e-4)
            assert gain[mine].std() == pytest.approx(varies, abs=1e-4)
            checked += int(varies)
    assert checked > 50


def test_a_single_row_and_rows_that_are_all_alike_are_labelled_one_half() -> None:
    for log in (watch_log([3.0], [10.0]), watch_log([3.0] * 80, [10.0] * 60 + [50.0] * 20)):
        assert WTG().fit(log)(torch.from_numpy(log.feedback)).tolist() == [0.5] * len(log)


def test_the_label_is_the_normal_probability_of_the_gain() -> None:
    maker = WTG().fit(LOG)
    label, gain = maker(FEEDBACK).numpy(), maker.gain(FEEDBACK).numpy()
    np.testing.assert_allclose(label, stats.norm.cdf(gain), atol=1e-6)
    assert 0 < label.min() < 0.5 < label.max() < 1


# ---


def test_a_replay_counts_as_one_whole_play() -> None:
    maker, feedback = WTG().fit(LOG), torch.zeros(2, 8)
    feedback[:, 0], feedback[:, 1] = torch.tensor([30.0, 90.0]), 30.0
    assert maker(feedback)[0] == maker(feedback)[1]


def test_a_lonely_second_is_compared_with_its_group_and_a_thin_group_with_all_rows() -> None:
    rng = np.random.default_rng(0)
    short, long = rng.uniform(0, 10, 200), rng.uniform(0, 100, 200)
    log = watch_log([*short, *long, 50.0], [*[10.0] * 200, *[100.0] * 200, 117.0])
    lonely = torch.zeros(1, 8)
    lonely[0, :2] = torch.tensor([50.0, 117.0])
    of_group = [*long, 50.0]
    want = (50 - np.mean(of_group)) / np.std(of_group)
    assert float(WTG(groups=2).fit(log).gain(lonely)) == pytest.approx(want, abs=1e-4)
    all_rows = [*short, *of_group]
    want = (50 - np.mean(all_rows)) / np.std(all_rows)
    assert float(WTG(groups=2, min_rows=300).fit(log).gain(lonely)) == pytest.approx(want, abs=1e-4)


def test_it_takes_the_duration_out_of_the_mean_watch() -> None:
    label = WTG().fit(LOG)(FEEDBACK).numpy()
    assert abs(stats.spearmanr(label, LOG.duration_s).statistic) < 0.05
    played = np.minimum(LOG.watch_time_s, LOG.duration_s)
    assert stats.spearmanr(played, LOG.duration_s).statistic > 0.3
