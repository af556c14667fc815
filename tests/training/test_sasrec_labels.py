"""SASRec4SV's three labels: half watched, how often watched through, well above the usual."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training._builders import watch_log, watched_log
from training.labels import SASRecBinary, SASRecRatio, WTGRelevant

LOG = watched_log()
FEEDBACK = torch.from_numpy(LOG.feedback)


def rows(watched: list[float], duration: list[float]) -> torch.Tensor:
    return torch.from_numpy(watch_log(watched, duration).feedback)


def test_binary_is_more_than_half_and_exactly_half_is_not() -> None:
    feedback = rows([4.9, 5.0, 5.1, 10.0, 25.0, 0.0], [10.0] * 6)
    assert SASRecBinary()(feedback).tolist() == [0, 0, 1, 1, 1, 0]


def test_a_part_of_a_play_and_every_replay_change_the_ratio() -> None:
    maker = SASRecRatio()
    label = maker(rows([0.0, 2.5, 5.0, 10.0, 20.0, 70.0], [10.0] * 6))
    assert label.tolist() == pytest.approx([0, 0.2, 1 / 3, 0.5, 2 / 3, 0.875])
    assert maker.ratio(label).tolist() == pytest.approx([0, 0.25, 0.5, 1, 2, 7], rel=1e-5)


def test_the_ratio_comes_back_from_every_label() -> None:
    maker = SASRecRatio()
    torch.testing.assert_close(maker.ratio(maker(FEEDBACK)), FEEDBACK[:, 0] / FEEDBACK[:, 1])


def test_relevant_is_beyond_one_deviation_in_the_minute_of_the_duration() -> None:
    maker = WTGRelevant().fit(LOG)
    minute = np.floor(LOG.duration_s / 60).astype(int)
    label = maker(FEEDBACK).numpy()
    checked = 0
    for m in range(4):
        watched = LOG.watch_time_s[minute == m].astype(np.float64)
        if len(watched) >= 50:
            want = watched > watched.mean() + watched.std()
            assert (label[minute == m] == want).all()
            assert 0.02 < want.mean() < 0.4
            checked += 1
    assert checked >= 3


def test_a_higher_bar_makes_fewer_relevant() -> None:
    share = [float(WTGRelevant(threshold=z).fit(LOG)(FEEDBACK).mean()) for z in (0.0, 1.0, 2.0)]
    assert share[0] > share[1] > share[2] > 0


def test_the_longest_share_one_bin_and_a_thin_bin_is_compared_with_all_rows() -> None:
    rng = np.random.default_rng(0)
    short, long = rng.uniform(0, 60, 300), rng.uniform(0, 4000, 60)
    log = watch_log([*short, *long], [*[60.0 - 1] * 300, *[1500.0] * 30, *[4000.0] * 30])
    maker = WTGRelevant().fit(log)
    bar = float(np.mean(long) + np.std(long))
    assert maker(rows([bar - 1, bar + 1] * 2, [1500.0, 1500.0, 9999.0, 9999.0])).tolist() == [0, 1, 0, 1]
    bar = float(np.mean([*short, *long]) + np.std([*short, *long]))
    min_rows = WTGRelevant(min_rows=100).fit(log)
    assert min_rows(rows([bar - 1, bar + 1], [1500.0] * 2)).tolist() == [0, 1]


def test_where_all_watch_alike_nothing_is_relevant() -> None:
    log = watch_log([5.0] * 100, [10.0] * 100)
    maker = WTGRelevant().fit(log)
    assert maker(rows([0.0, 5.0, 99.0], [10.0] * 3)).tolist() == [0, 0, 0]
