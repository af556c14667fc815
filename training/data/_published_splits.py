"""Published ways of cutting public logs for watch-time prediction: which rows, and which of them test.

Papers report different figures for the same method and data set because they differ here, so a figure means
something beside another only under one protocol. Each function filters the rows of a log and deals them out
as `Parts`. What papers leave open is said where it is decided. None decides what a model sees as history:
under a random split, rows before a test row in time are of all three parts.

| function | log | rows kept | parts | published in |
| --- | --- | --- | --- | --- |
| `kuairec_random` | KuaiRec, big_matrix | no advertisements, 0 < w < 10 d | random 80/10/10 | DADF |
| `kuairec_matrices` | KuaiRec, both | w > 0 | big_matrix, small_matrix tests | GR |
| `kuairec_chronological` | KuaiRec, big_matrix | all, w cut at 60 s | 80/10/10 in time | HEGM |
| `wechat_random` | WeChat | w > 0 | random 80/10/10 | reproductions |
| `wechat_days` | WeChat | w > 0 | days 1-10, 11-12, 13-14 | DVR |
| `cwm_kuairand` | KuaiRand-Pure | 5 s ≤ d ≤ 400 s | 04-08 to 04-21, to 04-28, to 05-08 | CWM |
| `cwm_wechat` | WeChat | 5 s ≤ d < 60 s | days 1-10, 11-12, 13-14 | CWM |
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import I64
from models.errors import BadInput
from models.vocabulary import Vocabulary
from training.data._dataset import Dataset
from training.data._interactions import Interactions
from training.data._split import Boundaries, split_by_time

__all__ = [
    "Parts",
    "Protocol",
    "advertisements",
    "cut",
    "cwm_kuairand",
    "cwm_wechat",
    "kuairec_chronological",
    "kuairec_matrices",
    "kuairec_random",
    "wechat_days",
    "wechat_random",
]

# Shape suffixes: N rows of the log, V videos of the vocabulary.

Rows = npt.NDArray[np.bool_]

Protocol = Literal[
    "kuairec-random",
    "kuairec-matrices",
    "kuairec-chronological",
    "wechat-random",
    "wechat-days",
    "cwm-kuairand",
    "cwm-wechat",
]
"""Their names for `compare watch-time --protocol`."""

SEED: Final = 312
"""DADF's seed. The draw is numpy's, so the rows are not those of the paper."""

DAYS: Final = ("2021-01-11", "2021-01-13")
"""Where WeChat's days 11 and 13 begin on the clock that `prepare` gives it."""


class Parts(NamedTuple):
    """A log as a protocol has it, and what each of its rows is for. Rows in no part are filtered out."""

    log: Interactions
    """The log given, or one of the same rows whose watch times the protocol cuts."""
    train: I64
    """Indices of rows, ascending. The three have no row in common."""
    stop: I64
    """Decides when to stop."""
    test: I64


def cut(protocol: Protocol, dataset: Dataset, vocabulary: Vocabulary, log: Interactions) -> Parts:
    """A data set's log under a protocol by name.

    Args:
        protocol: which.
        dataset: what `prepare` wrote.
        vocabulary: of its ids.
        log: its exposures under that vocabulary.

    Raises:
        BadInput: the log is not of the protocol's data set, or a part has no row.
    """
    home = protocol.removeprefix("cwm-").partition("-")[0]
    if not dataset.info.dataset.startswith(home):
        raise BadInput(f"protocol {protocol} is of {home}, this log is of {dataset.info.dataset}.")
    big, small = (vocabulary.index("tab", f"{size}_matrix") for size in ("big", "small"))
    match protocol:
        case "kuairec-random":
            found = advertisements(dataset, vocabulary)
            return kuairec_random(log, main_tab=big, is_advertisement_V=found)
        case "kuairec-matrices":
            return kuairec_matrices(log, big=big, small=small)
        case "kuairec-chronological":
            return kuairec_chronological(log, main_tab=big)
        case "wechat-random":
            return wechat_random(log)
        case "wechat-days":
            return wechat_days(log)
        case "cwm-kuairand":
            return cwm_kuairand(log)
        case "cwm-wechat":
            return cwm_wechat(log)


def kuairec_random(
    log: Interactions,
    *,
    main_tab: int | None = None,
    is_advertisement_V: Rows | None = None,
    seed: int = SEED,
) -> Parts:
    """KuaiRec's big matrix without advertisements, 0 < w < 10 d, at random 80/10/10.

    Source: DADF. EGMN draws 80/20 from a tenth of the rows instead. Copies of a row are not here,
    `prepare` has dropped them: at random, the copy of a test row would be trained on.

    Args:
        log: of KuaiRec.
        main_tab: row of `big_matrix` in the vocabulary's `tab`; other tabs go. `None`: all stay.
        is_advertisement_V: see `advertisements`; without it no row counts as one.
        seed: of the draw.

    Raises:
        BadInput: the rows that stay are too few for three parts.
    """
    keep = (log.watch_time_s > 0) & (log.watch_time_s < 10 * log.duration_s) & _of_tab(log, main_tab)
    if is_advertisement_V is not None:
        keep &= ~is_advertisement_V[log.ids[:, 0]]
    return _at_random(log, keep, seed)


def kuairec_matrices(log: Interactions, *, big: int, small: int, seed: int = SEED) -> Parts:
    """Train on KuaiRec's big matrix, test on the small one, w > 0.

    Source: GR, on values normalised as in EasyRL4Rec; seconds are kept here. Where to stop is not published:
    a random tenth of the big matrix decides. Times of the two matrices overlap, so test rows can lie before
    training rows; `log.take` of the parts keeps one matrix out of the other's histories.

    Args:
        log: of KuaiRec, prepared from both matrices.
        big, small: rows of `big_matrix` and `small_matrix` in the vocabulary's `tab`.
        seed: of the tenth.

    Raises:
        BadInput: a part has no row.
    """
    watched = log.watch_time_s > 0
    known = np.flatnonzero(watched & _of_tab(log, big))
    stop = np.sort(np.random.default_rng(seed).permutation(known)[: len(known) // 10])
    return _checked(
        Parts(log, np.setdiff1d(known, stop), stop, np.flatnonzero(watched & _of_tab(log, small)))
    )


def kuairec_chronological(log: Interactions, *, main_tab: int | None = None, cut_s: float = 60.0) -> Parts:
    """KuaiRec's big matrix in time, 80/10/10, watch times cut at the 99 % quantile.

    Source: HEGM, whose quantile is 60 s. A constant, so nothing is read off the rows that test. Rows of one
    millisecond stay together, so shares are met but for ties.

    Args:
        log: of KuaiRec.
        main_tab: row of `big_matrix` in the vocabulary's `tab`; other tabs go. `None`: all stay.
        cut_s: watch times above become this, in seconds.

    Raises:
        BadInput: the rows that stay are too few for three parts.
    """
    rows = np.flatnonzero(_of_tab(log, main_tab))
    time = log.timestamp_ms[rows]
    at = Boundaries.at_shares(time, meta=0.0, early_stop=0.1, test=0.1)
    return _in_time(_watched_at_most(log, np.full(len(log), cut_s)), rows, at)


def wechat_random(log: Interactions, *, seed: int = SEED) -> Parts:
    """WeChat's rows with any watching, at random 80/10/10, as reproductions of several papers have it.

    Raises:
        BadInput: the rows that stay are too few for three parts.
    """
    return _at_random(log, log.watch_time_s > 0, seed)


def wechat_days(log: Interactions) -> Parts:
    """WeChat's rows with any watching; days 1 to 10 train, 11 and 12 stop, 13 and 14 test.

    Source: the code of DVR (Zheng et al., MM 2022).

    Raises:
        BadInput: a part has no row.
    """
    return _in_time(log, np.flatnonzero(log.watch_time_s > 0), _days_of_wechat())


def cwm_kuairand(log: Interactions) -> Parts:
    """KuaiRand-Pure as CWM has it: 5 s ≤ d ≤ 400 s, 04-08 to 04-21 | 04-22 to 04-28 | 04-29 to 05-08.

    Source: Zhao et al., "Counteracting Duration Bias in Video Recommendation via Counterfactual Watch Time",
    KDD 2024, and its code. Durations are rounded to whole seconds for the bounds, and watch times end at the
    duration: a replay counts as watched to the end. Days are China's, by `time_ms`; the paper's are by
    `date`, another clock, which differs on one row in a hundred.

    Raises:
        BadInput: a part has no row.
    """
    at = Boundaries.at_days("2022-04-22", "2022-04-22", "2022-04-29", utc_offset_hours=8.0)
    end = Boundaries.at_days("2022-04-08", "2022-04-08", "2022-05-09", utc_offset_hours=8.0)
    inside = (log.timestamp_ms >= end.meta_ms) & (log.timestamp_ms < end.test_ms)
    whole_s = np.rint(log.duration_s)
    keep = inside & (whole_s >= 5) & (whole_s <= 400)
    return _in_time(_watched_at_most(log, log.duration_s), np.flatnonzero(keep), at)


def cwm_wechat(log: Interactions) -> Parts:
    """WeChat as CWM has it: 5 s ≤ d < 60 s, by days as `wechat_days`; watch times end at the duration.

    Source: as `cwm_kuairand`.

    Raises:
        BadInput: a part has no row.
    """
    whole_s = np.rint(log.duration_s)
    keep = (whole_s >= 5) & (whole_s < 60)
    return _in_time(_watched_at_most(log, log.duration_s), np.flatnonzero(keep), _days_of_wechat())


def advertisements(dataset: Dataset, vocabulary: Vocabulary) -> Rows:
    """`[V]` whether a row of the vocabulary's `video_id` is an advertisement.

    Told by `video_type` AD in `videos.parquet`. A data set that does not tell has none, nor have padding
    and unknown videos: fit the vocabulary with `min_count` 1.
    """
    out = np.zeros(vocabulary.size("video_id"), bool)
    videos = dataset.tables.videos
    if "video_type" in videos.columns:
        known = vocabulary.id_to_index("video_id")
        ids = videos.filter(videos["video_type"] == "AD")["video_id"]
        out[[known[video] for video in ids if video in known]] = True
    return out


def _of_tab(log: Interactions, tab: int | None) -> Rows:
    return np.ones(len(log), bool) if tab is None else log.ids[:, 3] == tab


def _watched_at_most(log: Interactions, most_s_N: npt.NDArray[np.floating]) -> Interactions:
    feedback = log.feedback.copy()
    feedback[:, 0] = np.minimum(feedback[:, 0], most_s_N)
    return replace(log, feedback=feedback)


def _at_random(log: Interactions, keep: Rows, seed: int) -> Parts:
    rows = np.flatnonzero(keep)
    drawn = np.random.default_rng(seed).permutation(rows)
    tenth = len(rows) // 10
    test, stop, train = np.split(drawn, [tenth, 2 * tenth])
    return _checked(Parts(log, np.sort(train), np.sort(stop), np.sort(test)))


def _in_time(log: Interactions, rows: I64, at: Boundaries) -> Parts:
    """Train before `at.early_stop_ms`; there is no meta hold-out."""
    split = split_by_time(log.timestamp_ms[rows], at)
    train = np.concatenate([split.train, split.meta])
    return _checked(Parts(log, rows[np.sort(train)], rows[split.early_stop], rows[split.test]))


def _days_of_wechat() -> Boundaries:
    return Boundaries.at_days(DAYS[0], DAYS[0], DAYS[1], utc_offset_hours=0.0)


def _checked(parts: Parts) -> Parts:
    found = {name: len(getattr(parts, name)) for name in ("train", "stop", "test")}
    if not all(found.values()):
        raise BadInput(
            f"the protocol leaves rows {found}, of a log of {len(parts.log)}; "
            "is it another data set's, or cut short?"
        )
    return parts
