"""What an audit looks at: rows of a window, and what they are compared by."""

# Shape suffixes: N rows of the log, R judged rows, G groups.

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
from training.labels import WTGRelevant
from training.recommender import RecommenderConfig, SequencesConfig

MINUTE_S: Final = 60.0
DECILES: Final = 10
NEW: Final = "new"
"""Videos that nobody was shown before the window."""


class AuditConfig(Config):
    """Everything that decides the figures of an audit besides the log and what is audited."""

    k: PositiveInt = 5
    """Places of a list. Only users with more rows than this in the window are judged by lists."""
    test_days: PositiveInt = 2
    """The last days of the log: the window."""
    stop_days: PositiveInt = 1
    """The days before them, for what the audit fits itself: when to stop."""
    all_tabs: bool = False
    """Judge every row; otherwise those of the data set's main tab, where it names one."""
    threshold: float = 1.0
    """Deviations above the mean of its minute of duration beyond which a watch time is relevant."""
    minutes: PositiveInt = 20
    """Minutes of duration; the last holds everything longer."""
    thin: PositiveInt = 500
    """Rows below which the last duration groups become one."""
    user_feature: str = "fans_user_num"
    """The number in `users.parquet` that users are split by."""
    user_split: float = 1000.0
    """Those below it, and the others."""
    resamples: PositiveInt = 1000
    """Of the bootstrap over users."""
    probes: PositiveInt = 400
    """Requests of the counterfactual probe at most."""
    min_count: PositiveInt = 2
    """For what the audit fits itself: ids on fewer exposures share the unknown row."""
    sequences: SequencesConfig = Field(default_factory=lambda: SequencesConfig(epochs=20))
    """SASRec4SV's model, where it is asked for."""
    recommender: RecommenderConfig = Field(default_factory=lambda: RecommenderConfig(stop_by="own"))
    """DIN on a label, where it is asked for."""
    seed: NonNegativeInt = 0
    """Of fits, draws, and the order of rows that a score does not tell apart."""


@dataclass(frozen=True)
class Groups:
    """A way of dealing rows out."""

    names: tuple[str, ...]
    """`G` of them."""
    of: I64
    """`[R]` 0 … G - 1."""


@dataclass(frozen=True)
class AuditWorld:
    """A log, its window, and the judged rows by columns, in the order of `Dataset.log`."""

    dataset: Dataset
    at: Boundaries
    rows: I64
    """`[R]` judged rows of `Dataset.log`."""
    user: I64
    """`[R]`"""
    watched: F32
    duration: F32
    explicit: Bools
    relevant: Bools
    """`[R]` WTG relevance, by the means and deviations of the rows before the window."""
    popularity: I64
    """`[R]` exposures of the row's video before the window."""
    duration_groups: Groups
    popularity_groups: Groups
    user_groups: Groups | None
    """`None` where the log does not have the number."""

    def facts(self) -> dict[str, Any]:
        """What is judged, as JSON."""
        info = self.dataset.info
        time = self.dataset.log["timestamp_ms"].to_numpy()[self.rows]
        return {
            "dataset": info.dataset,
            "source": info.source,
            "licence": info.licence,
            "days": [ms_to_day(int(t), info.utc_offset_hours) for t in (time.min(), time.max())],
            "rows": len(self.rows),
            "users": len(np.unique(self.user)),
            "relevant": float(self.relevant.mean()),
            "explicit": float(self.explicit.mean()),
            "duration_groups": _counted(self.duration_groups, self.relevant),
            "popularity_groups": _counted(self.popularity_groups, self.relevant),
            "user_groups": None if self.user_groups is None else _counted(self.user_groups, self.relevant),
        }

    def placed(self, vocabulary: Vocabulary) -> I64:
        """`[N]` for each row of `Dataset.interactions(vocabulary)` the row of `Dataset.log` that it is: the
        vocabulary decides the order within a user's millisecond."""
        log = self.dataset.log
        video = np.asarray(vocabulary.encode("video_id", log["video_id"].to_list()))
        return np.lexsort((video, log["timestamp_ms"].to_numpy(), _codes(log["user_id"]))).astype(np.int64)


def open_audit(data: Path, config: AuditConfig) -> AuditWorld:
    """Read a log and cut it.

    Raises:
        BadInput: the log cannot be read or is too short, or the window has no row of the main tab.
    """
    dataset = load(data)
    info, log = dataset.info, dataset.log
    at = dataset.last_days(test_days=config.test_days, stop_days=config.stop_days)
    time, tab = log["timestamp_ms"].to_numpy(), log["tab"]
    judged = time >= at.test_ms
    if info.main_tab is not None and not config.all_tabs:
        judged &= (tab == info.main_tab).fill_null(False).to_numpy()
    rows: I64 = np.flatnonzero(judged)
    if not len(rows):
        raise BadInput(
            f"no exposures of tab {info.main_tab} lie in the last {config.test_days} days; take more "
            "--test-days, or --all-tabs."
        )
    # Rows that a score does not tell apart come in a random order, not in that of the log.
    rows = np.random.default_rng(config.seed).permutation(rows)
    known = time < at.test_ms
    feedback = np.stack([log[name].cast(pl.Float32).to_numpy() for name in FEEDBACK_COLUMNS], axis=1)
    likes = log.select(pl.any_horizontal(*EXPLICIT)).to_series().to_numpy()
    before = log.filter(pl.Series(known)).group_by("video_id").agg(pl.len().alias("n"))
    shown = log.select("video_id").join(before, on="video_id", how="left", maintain_order="left")
    popularity = shown["n"].fill_null(0).cast(pl.Int64).to_numpy()[rows]
    return AuditWorld(
        dataset,
        at,
        rows,
        _codes(log["user_id"])[rows],
        feedback[rows, 0],
        feedback[rows, 1],
        likes[rows],
        _relevant(dataset, config, feedback, at.test_ms)[rows],
        popularity,
        _by_minute(feedback[rows, 1], config),
        _by_popularity(before["n"].to_numpy(), popularity),
        _by_user(dataset, rows, config),
    )


def _codes(column: pl.Series) -> I64:
    """`[N]` ids as their place in the order of the distinct ones."""
    return (column.rank("dense").cast(pl.Int64) - 1).to_numpy()


def _counted(groups: Groups, relevant: Bools) -> list[dict[str, Any]]:
    rows = np.bincount(groups.of, minlength=len(groups.names))
    positive = np.bincount(groups.of, relevant, minlength=len(groups.names))
    return [
        {"name": name, "rows": int(n), "relevant": float(r / n) if n else None}
        for name, n, r in zip(groups.names, rows, positive, strict=True)
    ]


def _relevant(dataset: Dataset, config: AuditConfig, feedback_N8: F32, before_ms: int) -> Bools:
    """`[N]` whether rows are worth showing, by the rows before a moment."""
    log = dataset.interactions(dataset.vocabulary(None, 1))
    maker = WTGRelevant(config.minutes, config.threshold).fit(log.take(log.rows_between(0, before_ms)))
    out: Bools = maker(torch.from_numpy(feedback_N8)).numpy() > 0
    return out


def _by_minute(duration_R: F32, config: AuditConfig) -> Groups:
    """Minutes of duration; from the end, those with few rows become one."""
    minute = np.minimum(duration_R // MINUTE_S, config.minutes - 1).astype(np.int64)
    longer = np.cumsum(np.bincount(minute)[::-1])[::-1]
    last = max(int(np.flatnonzero(longer >= min(config.thin, len(minute)))[-1]), 0)
    names = [f"{m} to {m + 1} min" for m in range(last)]
    names.append(f"{last} min and more" if last else "every duration")
    return Groups(tuple(names), np.minimum(minute, last))


def _by_popularity(before_V: I64, popularity_R: I64) -> Groups:
    """Tenths of the videos by their exposures before the window, least to most, and those without any."""
    edges = np.unique(np.quantile(before_V, np.linspace(0, 1, DECILES + 1)[1:-1], method="higher"))
    place = np.searchsorted(edges, popularity_R, side="left")
    from_, to = np.r_[1, edges + 1], np.r_[edges, before_V.max()]
    names = [f"{a}" if a == b else f"{a} to {b}" for a, b in zip(from_, to, strict=True)]
    return Groups((NEW, *names), np.where(popularity_R == 0, 0, place + 1).astype(np.int64))


def _by_user(dataset: Dataset, rows: I64, config: AuditConfig) -> Groups | None:
    users, name = dataset.tables.users, config.user_feature
    if name not in users.columns:
        return None
    of = dataset.log.select("user_id").join(
        users.select("user_id", name), on="user_id", how="left", maintain_order="left"
    )
    value: F64 = of[name].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()[rows]
    called = name.removesuffix("_user_num").replace("_", " ")
    split = f"{config.user_split:,.0f}"
    names = (f"fewer than {split} {called}", f"{split} {called} and more", f"{called} not known")
    group = np.where(np.isnan(value), 2, value >= config.user_split).astype(np.int64)
    return Groups(names[: int(group.max()) + 1], group)
