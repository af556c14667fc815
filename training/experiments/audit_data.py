"""The window of an audit: rows by columns, relevance, and groups of videos and users."""

# Shape suffixes: N rows of the log, R evaluated rows.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from models.arrays import F32, F64, I64, Bools
from models.errors import BadInput
from models.features import FEEDBACK_COLUMNS
from models.schema import EXPLICIT
from models.vocabulary import Vocabulary
from training.config import Config
from training.data import Boundaries, Dataset, load, ms_to_day
from training.evaluation.fairness import EvaluatedRows, Groups
from training.labels import WTGRelevant
from training.recommender import RecommenderConfig, SequencesConfig

MINUTE_S: Final = 60.0
DECILES: Final = 10
NEW: Final = "new"
"""Videos without exposures before the window."""


class AuditConfig(Config):
    """Everything that decides the figures of an audit besides the log and what is audited."""

    k: PositiveInt = 5
    """Positions of a list. Only users with more rows than this in the window are evaluated by lists."""
    test_days: PositiveInt = 2
    """The last days of the log: the window."""
    stop_days: PositiveInt = 1
    """The days before them, which stop the fits of the audit itself."""
    all_tabs: bool = False
    """Audit every tab; otherwise the dataset's main tab, where it names one."""
    threshold: float = 1.0
    """Deviations above the mean of its minute of duration beyond which a watch time is relevant."""
    minutes: PositiveInt = 20
    """Minutes of duration; the last holds everything longer."""
    thin: PositiveInt = 500
    """Rows below which the last duration groups become one."""
    user_feature: str = "fans_user_num"
    """The number in `users.parquet` that users are split by."""
    user_split: float = 1000.0
    """Users below it, and the others."""
    resamples: PositiveInt = 1000
    """Of the bootstrap over users."""
    probes: PositiveInt = 400
    """Requests of the counterfactual probe at most."""
    min_count: PositiveInt = 2
    """For the fits of the audit itself: ids on fewer exposures share the unknown index."""
    sequences: SequencesConfig = Field(default_factory=lambda: SequencesConfig(epochs=20))
    """SASRec4SV's model, where it is fitted."""
    recommender: RecommenderConfig = Field(default_factory=lambda: RecommenderConfig(stop_by="own"))
    """DIN on a label, where it is fitted."""
    seed: NonNegativeInt = 0
    """Of fits, draws, and the order of rows with equal scores."""


@dataclass(frozen=True)
class LogOrder:
    """The evaluated rows in the log of one vocabulary."""

    rows: I64
    """`[R]` rows of the log, ascending."""
    back: I64
    """`[R]` which of them each of `AuditData.rows` is."""


@dataclass(frozen=True)
class AuditData:
    """A log, its window, and the evaluated rows, in a random order: that of rows with equal scores."""

    dataset: Dataset
    boundaries: Boundaries
    log_rows: I64
    """`[R]` evaluated rows of `Dataset.log`."""
    rows: EvaluatedRows
    """The same by columns; relevant by means and deviations of the rows before the window."""
    explicit: Bools
    """`[R]` whether there is any explicit feedback."""
    popularity: I64
    """`[R]` exposures of the row's video before the window."""
    duration_groups: Groups
    popularity_groups: Groups
    user_groups: Groups | None
    """`None` where the log has no such number."""

    def summary(self) -> dict[str, Any]:
        """Return the window of the report, as JSON."""
        info, relevant = self.dataset.info, self.rows.relevant
        time = self.dataset.log["timestamp_ms"].to_numpy()[self.log_rows]
        return {
            "dataset": info.dataset,
            "source": info.source,
            "licence": info.licence,
            "days": [ms_to_day(int(ms), info.utc_offset_hours) for ms in (time.min(), time.max())],
            "rows": len(self.log_rows),
            "users": len(np.unique(self.rows.user)),
            "relevant": float(relevant.mean()),
            "explicit": float(self.explicit.mean()),
            "duration_groups": _count(self.duration_groups, relevant),
            "popularity_groups": _count(self.popularity_groups, relevant),
            "user_groups": None if self.user_groups is None else _count(self.user_groups, relevant),
        }

    def log_order(self, vocabulary: Vocabulary) -> I64:
        """Return `[N]` for each row of `Dataset.interactions(vocabulary)` its row of `Dataset.log`: the
        vocabulary decides the order within a user's millisecond."""
        log = self.dataset.log
        video = np.asarray(vocabulary.encode("video_id", log["video_id"].to_list()))
        order = np.lexsort((video, log["timestamp_ms"].to_numpy(), _codes(log["user_id"])))
        return order.astype(np.int64)

    def locate(self, vocabulary: Vocabulary) -> LogOrder:
        """Return where the evaluated rows are in `Dataset.interactions(vocabulary)`."""
        order = self.log_order(vocabulary)
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        rows = np.sort(position[self.log_rows])
        return LogOrder(rows, np.searchsorted(rows, position[self.log_rows]).astype(np.int64))


def load_audit_data(folder: Path, config: AuditConfig) -> AuditData:
    """Read a log and cut its window off.

    Raises:
        BadInput: the log cannot be read or is too short, or the window has no row of the main tab.
    """
    dataset = load(folder)
    info, log = dataset.info, dataset.log
    boundaries = dataset.last_days(test_days=config.test_days, stop_days=config.stop_days)
    time = log["timestamp_ms"].to_numpy()
    evaluated = time >= boundaries.test_ms
    if info.main_tab is not None and not config.all_tabs:
        evaluated &= (log["tab"] == info.main_tab).fill_null(False).to_numpy()
    rows: I64 = np.flatnonzero(evaluated)
    if not len(rows):
        raise BadInput(
            f"no exposures of tab {info.main_tab} are in the last {config.test_days} days; take more "
            "--test-days, or --all-tabs."
        )
    rows = np.random.default_rng(config.seed).permutation(rows)
    feedback = np.stack([log[name].cast(pl.Float32).to_numpy() for name in FEEDBACK_COLUMNS], axis=1)
    explicit = log.select(pl.any_horizontal(*EXPLICIT)).to_series().to_numpy()
    earlier = log.filter(pl.Series(time < boundaries.test_ms)).group_by("video_id").agg(pl.len().alias("n"))
    exposures = log.select("video_id").join(earlier, on="video_id", how="left", maintain_order="left")
    popularity = exposures["n"].fill_null(0).cast(pl.Int64).to_numpy()[rows]
    watched, duration = feedback[rows, 0], feedback[rows, 1]
    relevant = _relevant(dataset, config, feedback, boundaries.test_ms)[rows]
    return AuditData(
        dataset,
        boundaries,
        rows,
        EvaluatedRows(_codes(log["user_id"])[rows], watched, duration, relevant),
        explicit[rows],
        popularity,
        _duration_groups(duration, config),
        _popularity_groups(earlier["n"].to_numpy(), popularity),
        _user_groups(dataset, rows, config),
    )


def _codes(column: pl.Series) -> I64:
    """Return `[N]` ids as their rank among the distinct ones."""
    return (column.rank("dense").cast(pl.Int64) - 1).to_numpy()


def _count(groups: Groups, relevant_R: Bools) -> list[dict[str, Any]]:
    size = len(groups.names)
    rows = np.bincount(groups.index, minlength=size).tolist()
    relevant = np.bincount(groups.index, relevant_R, minlength=size).tolist()
    return [
        {"name": name, "rows": n, "relevant": r / n if n else None}
        for name, n, r in zip(groups.names, rows, relevant, strict=True)
    ]


def _relevant(dataset: Dataset, config: AuditConfig, feedback_N8: F32, before_ms: int) -> Bools:
    """Return `[N]` whether rows are relevant, by the rows before a moment."""
    log = dataset.interactions(dataset.vocabulary(None, 1))
    maker = WTGRelevant(config.minutes, config.threshold).fit(log.take(log.rows_between(0, before_ms)))
    relevant: Bools = maker(torch.from_numpy(feedback_N8)).numpy() > 0
    return relevant


def _duration_groups(duration_R: F32, config: AuditConfig) -> Groups:
    """Minutes of duration; from the end, those with few rows become one."""
    minute_R = np.minimum(duration_R // MINUTE_S, config.minutes - 1).astype(np.int64)
    rows_beyond = np.cumsum(np.bincount(minute_R)[::-1])[::-1]
    last = max(int(np.flatnonzero(rows_beyond >= min(config.thin, len(minute_R)))[-1]), 0)
    names = [f"{minute} to {minute + 1} min" for minute in range(last)]
    names.append(f"{last} min and more" if last else "every duration")
    return Groups(tuple(names), np.minimum(minute_R, last))


def _popularity_groups(exposures_V: I64, popularity_R: I64) -> Groups:
    """Tenths of the videos by their exposures before the window, least to most, and those without any."""
    edges = np.unique(np.quantile(exposures_V, np.linspace(0, 1, DECILES + 1)[1:-1], method="higher"))
    tenth_R = np.searchsorted(edges, popularity_R, side="left")
    pairs = zip(np.r_[1, edges + 1], np.r_[edges, exposures_V.max()], strict=True)
    names = [f"{low}" if low == high else f"{low} to {high}" for low, high in pairs]
    return Groups((NEW, *names), np.where(popularity_R == 0, 0, tenth_R + 1).astype(np.int64))


def _user_groups(dataset: Dataset, rows: I64, config: AuditConfig) -> Groups | None:
    users, name = dataset.tables.users, config.user_feature
    if name not in users.columns:
        return None
    features = dataset.log.select("user_id").join(
        users.select("user_id", name), on="user_id", how="left", maintain_order="left"
    )
    value_R: F64 = features[name].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()[rows]
    feature = name.removesuffix("_user_num").replace("_", " ")
    split = f"{config.user_split:,.0f}"
    names = (f"fewer than {split} {feature}", f"{split} {feature} and more", f"{feature} not known")
    group_R = np.where(np.isnan(value_R), 2, value_R >= config.user_split).astype(np.int64)
    return Groups(names[: int(group_R.max()) + 1], group_R)
