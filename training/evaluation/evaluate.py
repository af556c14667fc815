"""Evaluate a bundle, or a run, on a window of a log that it has not seen."""

# Shape suffixes: R rows.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.arrays import F32, I64
from models.errors import BadInput
from models.fusion import fuse
from models.metrics import Figures, distribution_report, long_view, mae_s, report, rmse_s
from models.runtime import Bundle
from models.store import BundleStore
from models.vocabulary import FIRST
from training.data import DAY_MS, Dataset, Interactions, day_to_ms
from training.evaluation.predict import Law, Predictions
from training.evaluation.seconds import OCTILES
from training.strata import DurationGroups

BY_TAB_ROWS: Final = 100
"""Tabs with fewer rows in the window get no metrics of their own."""


def compute_metrics(
    log: Interactions, rows: I64, predictions: Predictions, weights: Mapping[str, float]
) -> Figures:
    """Return every metric of `models.metrics.report` on `[R]` rows, for a ranker's predictions of them, and
    those of `distribution_report` where it predicts a law."""
    score, _ = fuse(predictions.slate.objectives, weights)
    law = predictions.pointwise.law
    distribution = {} if law is None else _distribution_metrics(log, rows, law)
    return distribution | report(
        user=log.user[rows],
        watch_time_s=log.watch_time_s[rows],
        duration_s=log.duration_s[rows],
        explicit=log.explicit[rows],
        long_view=long_view(log.watch_time_s[rows], log.duration_s[rows]),
        predicted_s=predictions.pointwise.watch_time_s,
        score=score,
    )


def _distribution_metrics(log: Interactions, rows: I64, law: Law) -> Figures:
    duration = log.duration_s[rows]
    return distribution_report(
        watch_time_s=log.watch_time_s[rows],
        duration_s=duration,
        weight_NK=law.anchor_weights,
        value_s_NK=law.anchor_ratio * duration[:, None],
        quantile_s_N3=law.quantiles_s,
        expected_s=law.expected_watch_time_s,
        state_N3=law.states,
    )


def compute_metrics_by_tab(
    log: Interactions, rows: I64, predictions: Predictions, weights: Mapping[str, float], tabs: list[str]
) -> dict[str, Figures]:
    """Return `compute_metrics` for each tab with at least `BY_TAB_ROWS` rows; `tabs` as in the vocabulary."""
    return {
        name: compute_metrics(log, rows[index], predictions.take(index), weights)
        for name, index in _tab_rows(log, rows, tabs)
    }


def _tab_rows(log: Interactions, rows: I64, tabs: list[str]) -> Iterator[tuple[str, I64]]:
    """Tabs with enough of these rows, and which of `rows` they are."""
    for tab, name in enumerate(tabs, FIRST):
        index = np.flatnonzero(log.tab[rows] == tab)
        if len(index) >= BY_TAB_ROWS:
            yield name, index


def baselines(log: Interactions, rows: I64, before: I64, tabs: list[str]) -> dict[str, Figures]:
    """Return the errors of constants that need no ranker, over all rows of a window and by tab.

    MAE is least at medians and RMSE at means, so each has a baseline of its own, for all rows before the
    window and for each of `OCTILES` duration groups of them.
    """
    duration = log.duration_s

    def constants(evaluated: I64, known: I64, groups: int, statistic: Callable[[F32], float]) -> F32:
        group_of = DurationGroups(groups).fit(duration[known])
        known_group, group = (
            group_of(torch.from_numpy(duration[part])).numpy() for part in (known, evaluated)
        )
        values = np.zeros(groups, np.float32)
        for g in np.unique(group):
            members = known[known_group == g]
            values[g] = statistic(log.watch_time_s[members if len(members) else known])
        out: F32 = values[group]
        return out

    kinds: dict[str, tuple[str, int, Callable[[F32], float], Callable[[F32, F32], float | None]]] = {
        "median": ("mae_s", 1, lambda x: float(np.median(x)), mae_s),
        "median_by_duration": ("mae_s", OCTILES, lambda x: float(np.median(x)), mae_s),
        "mean": ("rmse_s", 1, lambda x: float(x.mean()), rmse_s),
        "mean_by_duration": ("rmse_s", OCTILES, lambda x: float(x.mean()), rmse_s),
    }
    parts = [("", rows, before)]
    for name, index in _tab_rows(log, rows, tabs):
        parts.append((f".tab_{name}", rows[index], before[log.tab[before] == tabs.index(name) + FIRST]))
    out: dict[str, Figures] = {name: {} for name in kinds}
    for name, (figure, groups, statistic, error) in kinds.items():
        for suffix, evaluated, known in parts:
            out[name][figure + suffix] = (
                error(constants(evaluated, known, groups, statistic), log.watch_time_s[evaluated])
                if len(known) and len(evaluated)
                else None
            )
    return out


def parse_window(
    dataset: Dataset, watermark_ms: int, start: str | None, end: str | None, *, allow_seen: bool
) -> tuple[int, int]:
    """Return the half-open window in milliseconds between two dates of the data set's time zone, inclusive.

    Without `start` it begins right after the watermark; without `end` it reaches to the log's last row.

    Raises:
        BadInput: not a date, an empty window, or one that begins before the watermark.
    """
    offset = dataset.info.utc_offset_hours
    from_ms = day_to_ms(start, offset) if start else watermark_ms + 1
    to_ms = day_to_ms(end, offset) + DAY_MS if end else dataset.info.last_timestamp_ms + 1
    if from_ms <= watermark_ms and not allow_seen:
        seen = datetime.fromtimestamp(watermark_ms / 1000, UTC)
        raise BadInput(
            f"the window begins before the data watermark, {seen:%Y-%m-%d %H:%M:%S} UTC: the weights "
            "have seen those rows. Begin later, or give --allow-seen to evaluate it all the same."
        )
    if from_ms >= to_ms or from_ms > dataset.info.last_timestamp_ms:
        raise BadInput(
            f"the window is empty: the log ends at {dataset.info.last_timestamp_ms}, the window would be "
            f"{from_ms} to {to_ms}. Give --from and --to within the log, or --allow-seen."
        )
    return from_ms, to_ms


def open_bundle(folder: Path) -> Bundle:
    """Load a version's folder, or of a folder of versions the active one."""
    return Bundle.load(version_folder(folder), threads=2)


def version_folder(folder: Path) -> Path:
    """Return a version's folder as it is, of a folder of versions the active one's."""
    if (folder / "manifest.json").exists():
        return folder
    store = BundleStore(folder)
    return store.path(store.current())


def evaluate(
    log: Interactions,
    predict: Callable[[I64], Predictions],
    *,
    tabs: list[str],
    weights: Mapping[str, float],
    window: tuple[int, int],
    tab: str | None = None,
) -> dict[str, Any]:
    """Return every metric on the rows of a window.

    Args:
        log: the exposures; everything before the window is history only.
        predict: rows -> predictions of a ranker.
        tabs: the vocabulary's tabs.
        weights: for the fusion.
        window: half-open, milliseconds.
        tab: evaluate the rows of this tab alone.

    Raises:
        BadInput: no row is left.
    """
    rows = log.rows_between(*window)
    if tab is not None:
        if tab not in tabs:
            raise BadInput(f"--tab {tab!r} is not in the vocabulary, which has {', '.join(tabs)}.")
        rows = rows[log.tab[rows] == tabs.index(tab) + FIRST]
    if not len(rows):
        raise BadInput("no exposures lie in the window; give other dates.")
    predictions = predict(rows)
    before = log.rows_between(0, window[0])
    return {
        **compute_metrics(log, rows, predictions, weights),
        "by_tab": compute_metrics_by_tab(log, rows, predictions, weights, tabs),
        "baselines": baselines(log, rows, before, tabs),
        "window": {"from_ms": window[0], "to_ms": window[1], "tab": tab},
    }
