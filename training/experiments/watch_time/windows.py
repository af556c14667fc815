"""The rolling origin: windows of the last days, each with the days before it to fit on and to stop by."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.data import day_numbers, load
from training.experiments.data import ExperimentData, load_experiment_data
from training.experiments.watch_time.config import WatchTimeConfig


def load_windows(folder: Path, config: WatchTimeConfig) -> tuple[ExperimentData, ...]:
    """Read a log once a window, oldest first; a published protocol has one window.

    Raises:
        BadInput: the log cannot be read or is too short, or a window is empty.
    """
    counts = [0] if config.protocol is not None else range(_windows_of(folder, config))[::-1]
    return tuple(load_window(folder, config, later) for later in counts)


def load_window(folder: Path, config: WatchTimeConfig, later: int = 0) -> ExperimentData:
    """Read a log and cut it by days and tab, or by the config's protocol.

    Args:
        folder: a folder that `prepare` wrote, or one's own log in that layout.
        config: days of the windows.
        later: how many windows follow. Their days are not read.
    """
    return load_experiment_data(
        folder,
        test_days=config.test_days,
        stop_days=config.stop_days,
        later_days=later * config.test_days,
        min_count=config.min_count,
        main_tab_only=not config.all_tabs,
        protocol=config.protocol,
    )


def load_first_window(folder: Path, config: WatchTimeConfig) -> ExperimentData:
    """Read the oldest window, by whose early-stop days hyperparameters may be chosen for all of them."""
    if config.protocol is not None:
        return load_window(folder, config)
    return load_window(folder, config, _windows_of(folder, config) - 1)


def _windows_of(folder: Path, config: WatchTimeConfig) -> int:
    """Return how many windows there are: a log that is too short for one is refused when it is read."""
    info = load(folder).info
    first, last = day_numbers(
        np.array([info.first_timestamp_ms, info.last_timestamp_ms]), info.utc_offset_hours
    )
    fit = (int(last - first) - config.stop_days) // config.test_days
    return max(1, min(config.windows, fit))
