"""The log of an experiment, cut into windows that are fitted on, that stop fits, and that are reported."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import I64
from models.errors import BadInput
from models.vocabulary import Vocabulary
from training.data import DAY_MS, Dataset, Interactions, Protocol, cut, load, ms_to_day, split_by_time
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.train.fit import rows_in_main_tab
from training.train.run_config import new_encoder


@dataclass(frozen=True)
class ExperimentData:
    """A log and its windows, as rows of `log`."""

    dataset: Dataset
    vocabulary: Vocabulary
    log: Interactions
    train: I64
    """Rows before every other window."""
    meta: I64 | None
    """LabelCraft's hold-out after them; `None` where the experiment has none."""
    stop: I64
    """Rows of early stopping."""
    test: I64
    """`[R]` rows that are reported."""

    @cached_property
    def fitted(self) -> I64:
        """Rows that recommenders are fitted on: `train` and `meta`."""
        return self.train if self.meta is None else np.union1d(self.train, self.meta)

    @property
    def windows(self) -> dict[str, I64]:
        """Rows by window, for reports."""
        meta = {} if self.meta is None else {"meta": self.meta}
        return {"train": self.train} | meta | {"early_stop": self.stop, "test": self.test}

    def new_encoder(self, config: FeedbackEncoderConfig) -> FeedbackEncoder:
        """Return an unfitted encoder of the sizes that this log calls for."""
        dataset = self.dataset
        profile = dataset.profile_numbers, dataset.profile_categories
        return new_encoder(config, self.vocabulary, *profile, dataset.signals, dataset.video_features)


def load_experiment_data(
    folder: Path,
    *,
    test_days: int,
    stop_days: int,
    meta_days: int | None = None,
    later_days: int = 0,
    min_count: int,
    main_tab_only: bool = False,
    protocol: Protocol | None = None,
    required: Collection[str] = ("train", "early_stop", "test"),
) -> ExperimentData:
    """Read a log and cut its last days off.

    The vocabulary is that of the rows before the early-stop days.

    Args:
        folder: what `prepare` wrote, or one's own log in that layout.
        test_days, stop_days, meta_days: days of each window, from the end of the log.
        later_days: days after the windows, as if the log ended before them.
        min_count: ids on fewer exposures share the unknown index.
        main_tab_only: keep the rows of the dataset's main tab in the early-stop and test windows.
        protocol: cut a public log as papers do instead.
        required: windows that must not be empty.

    Raises:
        BadInput: the log cannot be read or is too short, a required window is empty, or the protocol belongs
            to another dataset.
    """
    dataset = load(folder)
    if protocol is not None:
        return _cut_by_protocol(protocol, dataset, min_count)
    boundaries = dataset.last_days(
        test_days=test_days + later_days, stop_days=stop_days, meta_days=meta_days or 0
    )
    vocabulary = dataset.vocabulary(boundaries.early_stop_ms, min_count)
    log = dataset.interactions(vocabulary)
    if later_days:
        log = log.take(np.flatnonzero(log.timestamp_ms < boundaries.test_ms + test_days * DAY_MS))
    split = split_by_time(log.timestamp_ms, boundaries)
    stop, test = split.early_stop, split.test
    if main_tab_only:
        stop, test = (rows_in_main_tab(dataset, log, rows, vocabulary) for rows in (stop, test))
    meta = None if meta_days is None else split.meta
    data = ExperimentData(dataset, vocabulary, log, split.train, meta, stop, test)
    for name in required:
        if not len(data.windows[name]):
            tab = f" (tab {dataset.info.main_tab})" if main_tab_only and name != "train" else ""
            raise BadInput(
                f"no exposures are left in the {name.replace('_', '-')} window{tab}; use a longer log, fewer "
                f"--test-days or --stop-days{', or --all-tabs' if tab else ''}."
            )
    return data


def _cut_by_protocol(protocol: Protocol, dataset: Dataset, min_count: int) -> ExperimentData:
    """Cut by a published protocol. Where it cuts by time, ids first seen later share the unknown index."""
    vocabulary = dataset.vocabulary(None, min_count)
    parts = cut(protocol, dataset, vocabulary, dataset.interactions(vocabulary))
    time = parts.log.timestamp_ms
    later = int(min(time[parts.stop].min(), time[parts.test].min()))
    if time[parts.train].max() < later:
        vocabulary = dataset.vocabulary(later, min_count)
        parts = cut(protocol, dataset, vocabulary, dataset.interactions(vocabulary))
    return ExperimentData(dataset, vocabulary, parts.log, parts.train, None, parts.stop, parts.test)


def dataset_summary(
    data: ExperimentData, describe_window: Callable[[I64], Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the source of a log and the days, rows and users of its windows, as JSON.

    Args:
        data: the log.
        describe_window: rows -> what the experiment reports of a window besides.
    """
    log, info = data.log, data.dataset.info
    windows = {}
    for name, rows in data.windows.items():
        time = log.timestamp_ms[rows]
        windows[name] = {
            "days": [
                ms_to_day(int(ms), info.utc_offset_hours)
                for ms in ((time.min(), time.max()) if len(rows) else ())
            ],
            "rows": len(rows),
            "users": len(np.unique(log.user[rows])),
            **describe_window(rows),
        }
    source = {"dataset": info.dataset, "source": info.source, "licence": info.licence}
    return {**source, "rows": len(log), "windows": windows}
