"""Published splits of public logs for watch-time prediction: which rows are used, and which of them test.

Papers report different figures for the same method and dataset because their splits differ, so figures are
comparable under one protocol only. Each function filters the rows of a log and splits them into `Parts`.
Choices that a paper leaves open are stated where they are made. No protocol restricts the sequences: under a
random split, the rows before a test row belong to all three parts.

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
"""Values of `compare watch-time --protocol`."""

SEED: Final = 312
"""DADF's seed. The permutation is numpy's, so the rows differ from the paper's."""

DAYS: Final = ("2021-01-11", "2021-01-13")
"""Start of WeChat's days 11 and 13 in the timestamps that `prepare` invents."""


class Parts(NamedTuple):
    """A log under a protocol, and the use of its rows. Rows in no part are filtered out."""

    log: Interactions
    """The given log, with watch times clipped if the protocol clips them."""
    train: I64
    """Indices of rows, ascending. The three parts are disjoint."""
    stop: I64
    """Rows that decide early stopping."""
    test: I64


def cut(protocol: Protocol, dataset: Dataset, vocabulary: Vocabulary, log: Interactions) -> Parts:
    """Split the log of a dataset under a protocol.

    Args:
        protocol: its name.
        dataset: the dataset.
        vocabulary: of its ids.
        log: its exposures under that vocabulary.

    Raises:
        BadInput: the protocol is for another dataset, or a part has no row.
    """
    home = protocol.removeprefix("cwm-").partition("-")[0]
    if not dataset.info.dataset.startswith(home):
        raise BadInput(f"protocol {protocol} is for {home}, this log is {dataset.info.dataset}.")
    big, small = (vocabulary.index("tab", f"{size}_matrix") for size in ("big", "small"))
    match protocol:
        case "kuairec-random":
            return kuairec_random(log, main_tab=big, is_advertisement_V=advertisements(dataset, vocabulary))
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
    """Split KuaiRec's big matrix without advertisements, 0 < w < 10 d, at random 80/10/10.

    Source: DADF. EGMN samples 80/20 from a tenth of the rows instead. `prepare` has dropped duplicates;
    otherwise the duplicate of a test row could be fitted on.

    Args:
        log: of KuaiRec.
        main_tab: index of `big_matrix` in the vocabulary's `tab`; other tabs are dropped. `None` keeps all.
        is_advertisement_V: from `advertisements`; by default no row is one.
        seed: of the permutation.

    Raises:
        BadInput: too few rows remain for three parts.
    """
    keep = (log.watch_time_s > 0) & (log.watch_time_s < 10 * log.duration_s) & _of_tab(log, main_tab)
    if is_advertisement_V is not None:
        keep &= ~is_advertisement_V[log.ids[:, 0]]
    return _at_random(log, keep, seed)


def kuairec_matrices(log: Interactions, *, big: int, small: int, seed: int = SEED) -> Parts:
    """Train on KuaiRec's big matrix, test on the small one, w > 0.

    Source: GR, on values normalised as in EasyRL4Rec; here they stay in seconds. The early-stop rows are not
    published: a random tenth of the big matrix is used. The two matrices overlap in time, so test rows can
    precede training rows; `log.take` of the parts keeps one matrix out of the other's sequences.

    Args:
        log: of KuaiRec, prepared from both matrices.
        big, small: indices of `big_matrix` and `small_matrix` in the vocabulary's `tab`.
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
    """Split KuaiRec's big matrix in time, 80/10/10, with watch times clipped at the 99 % quantile.

    Source: HEGM, whose quantile is 60 s. A constant is used, so that test rows do not influence it. Rows of
    one millisecond stay together, so shares are exact up to ties.

    Args:
        log: of KuaiRec.
        main_tab: index of `big_matrix` in the vocabulary's `tab`; other tabs are dropped. `None` keeps all.
        cut_s: maximum watch time, s.

    Raises:
        BadInput: too few rows remain for three parts.
    """
    rows = np.flatnonzero(_of_tab(log, main_tab))
    time = log.timestamp_ms[rows]
    boundaries = Boundaries.at_shares(time, meta=0.0, early_stop=0.1, test=0.1)
    return _in_time(_watched_at_most(log, np.full(len(log), cut_s)), rows, boundaries)


def wechat_random(log: Interactions, *, seed: int = SEED) -> Parts:
    """Split WeChat's rows with w > 0 at random 80/10/10, as reproductions of several papers do.

    Raises:
        BadInput: too few rows remain for three parts.
    """
    return _at_random(log, log.watch_time_s > 0, seed)


def wechat_days(log: Interactions) -> Parts:
    """Split WeChat's rows with w > 0 by day: 1 to 10 train, 11 and 12 early stop, 13 and 14 test.

    Source: the code of DVR (Zheng et al., MM 2022).

    Raises:
        BadInput: a part has no row.
    """
    return _in_time(log, np.flatnonzero(log.watch_time_s > 0), _days_of_wechat())


def cwm_kuairand(log: Interactions) -> Parts:
    """Split KuaiRand-Pure as CWM does: 5 s ≤ d ≤ 400 s, 04-08 to 04-21 | 04-22 to 04-28 | 04-29 to 05-08.

    Source: Zhao et al., "Counteracting Duration Bias in Video Recommendation via Counterfactual Watch Time",
    KDD 2024, and its code. Durations are rounded to whole seconds for the bounds, and watch times are clipped
    at the duration: a replay counts as watched to the end. Days are in China time by `time_ms`; the paper
    uses `date`, which differs on one row in a hundred.

    Raises:
        BadInput: a part has no row.
    """
    boundaries = Boundaries.at_days("2022-04-22", "2022-04-22", "2022-04-29", utc_offset_hours=8.0)
    end = Boundaries.at_days("2022-04-08", "2022-04-08", "2022-05-09", utc_offset_hours=8.0)
    inside = (log.timestamp_ms >= end.meta_ms) & (log.timestamp_ms < end.test_ms)
    whole_s = np.rint(log.duration_s)
    keep = inside & (whole_s >= 5) & (whole_s <= 400)
    return _in_time(_watched_at_most(log, log.duration_s), np.flatnonzero(keep), boundaries)


def cwm_wechat(log: Interactions) -> Parts:
    """Split WeChat as CWM does: 5 s ≤ d < 60 s, days as `wechat_days`, watch times clipped at the duration.

    Source: as `cwm_kuairand`.

    Raises:
        BadInput: a part has no row.
    """
    whole_s = np.rint(log.duration_s)
    keep = (whole_s >= 5) & (whole_s < 60)
    return _in_time(_watched_at_most(log, log.duration_s), np.flatnonzero(keep), _days_of_wechat())


def advertisements(dataset: Dataset, vocabulary: Vocabulary) -> Rows:
    """Return which indices of the vocabulary's `video_id` are advertisements, `[V]`.

    They have `video_type` AD in `videos.parquet`. Unknown videos count as none, so fit the vocabulary with
    `min_count` 1.
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
    shuffled = np.random.default_rng(seed).permutation(rows)
    tenth = len(rows) // 10
    test, stop, train = np.split(shuffled, [tenth, 2 * tenth])
    return _checked(Parts(log, np.sort(train), np.sort(stop), np.sort(test)))


def _in_time(log: Interactions, rows: I64, boundaries: Boundaries) -> Parts:
    """Train before `early_stop_ms`; there is no meta hold-out."""
    split = split_by_time(log.timestamp_ms[rows], boundaries)
    train = np.concatenate([split.train, split.meta])
    return _checked(Parts(log, rows[np.sort(train)], rows[split.early_stop], rows[split.test]))


def _days_of_wechat() -> Boundaries:
    return Boundaries.at_days(DAYS[0], DAYS[0], DAYS[1], utc_offset_hours=0.0)


def _checked(parts: Parts) -> Parts:
    sizes = {name: len(getattr(parts, name)) for name in ("train", "stop", "test")}
    if not all(sizes.values()):
        raise BadInput(
            f"the protocol leaves rows {sizes}, of a log of {len(parts.log)}; "
            "is it another dataset, or cut short?"
        )
    return parts
