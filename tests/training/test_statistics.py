"""Statistics of videos: causal while fitting, frozen afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given, settings

from models.arrays import F32
from tests.training._builders import log_of, logs
from training.data import Interactions
from training.encoders._statistics import COLUMNS, SHRINKAGE, VideoStatistics, outcomes


def fitted(log: Interactions) -> tuple[VideoStatistics, F32]:
    statistics = VideoStatistics((9, 5, 4))
    return statistics, statistics.fit(log, np.arange(len(log)))


def counted(log: Interactions) -> npt.NDArray[np.bool_]:
    """Tabs where over half of the rows have a watch time."""
    share = {t: (log.watch_time_s[log.ids[:, 3] == t] > 0).mean() for t in np.unique(log.ids[:, 3])}
    return np.array([share[t] > 0.5 for t in log.ids[:, 3]])


@given(logs)
@settings(max_examples=60, deadline=None)
def test_a_row_sees_the_earlier_rows_of_its_video_author_and_tag(
    drawn: tuple[list[int], list[int], int],
) -> None:
    log = log_of(*drawn)
    _, causal = fitted(log)
    value, counts = outcomes(log.watch_time_s, log.duration_s), counted(log)
    overall = value[counts].mean(axis=0) if counts.any() else np.zeros(4)
    for row in range(len(log)):
        for key in range(3):
            before = (log.ids[:, key] == log.ids[row, key]) & counts
            before &= log.timestamp_ms < log.timestamp_ms[row]
            mean = (value[before].sum(axis=0) + SHRINKAGE * overall) / (before.sum() + SHRINKAGE)
            want = [np.log1p(before.sum()), *mean]
            got = causal[row, key * len(COLUMNS) : (key + 1) * len(COLUMNS)]
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@given(logs)
@settings(max_examples=30, deadline=None)
def test_the_table_holds_all_rows(drawn: tuple[list[int], list[int], int]) -> None:
    log = log_of(*drawn)
    statistics, _ = fitted(log)
    counts = counted(log)
    out = statistics(torch.from_numpy(log.ids[None, :, :3]))[0].numpy()
    for row in range(len(log)):
        for key in range(3):
            seen = ((log.ids[:, key] == log.ids[row, key]) & counts).sum()
            assert out[row, key * len(COLUMNS)] == np.float32(np.log1p(seen))


def test_the_future_does_not_change_what_a_row_sees() -> None:
    log = log_of([0, 0, 1, 1, 2], [1, 5, 2, 6, 3])
    late = log.timestamp_ms >= 5
    feedback = log.feedback.copy()
    feedback[late, 0] = feedback[late, 1] * 0.5  # still above 0: which tabs count is fixed
    feedback[~late, 0] = 1.0
    base = replace(log, feedback=feedback)
    feedback = feedback.copy()
    feedback[late, 0] = feedback[late, 1] * 3
    _, before = fitted(base)
    _, after = fitted(replace(log, feedback=feedback))
    # Counts do not move at all; the means only through the overall mean that they are shrunk to.
    np.testing.assert_array_equal(before[~late][:, ::5], after[~late][:, ::5])


def test_exposures_before_the_log_count_as_exposures_and_long_views_from_the_start() -> None:
    log = log_of([0, 1, 2], [1, 2, 3])
    censored = tuple(np.zeros((size, 2)) for size in (9, 5, 4))
    video = int(log.ids[0, 0])
    censored[0][video] = (100, 80)
    statistics = VideoStatistics((9, 5, 4))
    causal = statistics.fit(log, np.arange(3), (censored[0], censored[1], censored[2]))
    overall = outcomes(log.watch_time_s, log.duration_s)[counted(log)].mean(axis=0)
    earlier = causal[0, : len(COLUMNS)]
    assert earlier[0] == np.float32(np.log1p(100))
    np.testing.assert_allclose(earlier[1], (80 + SHRINKAGE * overall[0]) / (100 + SHRINKAGE), rtol=1e-5)
    np.testing.assert_allclose(earlier[2:], overall[1:], rtol=1e-5)
