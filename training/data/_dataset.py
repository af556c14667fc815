"""A dataset in memory: fits the vocabulary and turns string ids into its indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

from models.arrays import F32, F64, I32, I64
from models.features import (
    FEEDBACK_COLUMNS,
    HISTORY_COLUMNS,
    HISTORY_LENGTH,
    SEQUENCE_ID_COLUMNS,
)
from models.schema import category_of
from models.signals import Signals
from models.video_features import VideoFeatures, video_feature_arrays
from models.vocabulary import PADDING, UNKNOWN, Vocabulary
from training.data._interactions import FeaturesOfVideos, Interactions
from training.data._split import Boundaries
from training.data._tables import Info, Tables

# Shape suffixes: N rows of the log, U users in it, P and Q profile features.


_PROFILE: Final = "profile."
"""Prefix of the vocabulary's fields for categorical profile features."""


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory, from `load` or `SyntheticLog.dataset`."""

    tables: Tables

    @property
    def info(self) -> Info:
        """`dataset.json`."""
        return self.tables.info

    @property
    def log(self) -> pl.DataFrame:
        """`interactions.parquet`, oldest first: ids are strings, timestamps milliseconds."""
        return self.tables.interactions

    @property
    def profile_numbers(self) -> tuple[str, ...]:
        """Names of the numeric profile features, in the order of `Interactions.profile`."""
        return self.info.profile.numbers

    @property
    def profile_categories(self) -> tuple[str, ...]:
        """Names of the categorical profile features, in the order of `Interactions.profile_ids`."""
        return self.info.profile.categories

    def last_days(self, *, test_days: int, stop_days: int, meta_days: int = 0) -> Boundaries:
        """Return windows of whole days from the end of the log, as `Boundaries.at_last_days`."""
        info = self.info
        return Boundaries.at_last_days(
            info.first_timestamp_ms,
            info.last_timestamp_ms,
            meta_days=meta_days,
            stop_days=stop_days,
            test_days=test_days,
            utc_offset_hours=info.utc_offset_hours,
        )

    def vocabulary(self, before_ms: int | None = None, min_count: int = 1) -> Vocabulary:
        """Fit a vocabulary on the rows before a moment; the most frequent ids come first (ties by id).

        Args:
            before_ms: rows from this moment on are ignored, so that test days leave no trace in the
                tables; `None` uses every row.
            min_count: ids with fewer rows are left out (users, for a profile category).

        Returns:
            Fields `video_id`, `author_id`, `tag`, `tab`, and `profile.<name>` for every categorical
            profile feature, fitted on the users who have such a row; likewise `video.<name>` for every
            category of videos.
        """
        rows = self.log if before_ms is None else self.log.filter(pl.col("timestamp_ms") < before_ms)
        fields = {name: _by_count(rows[name], min_count) for name in SEQUENCE_ID_COLUMNS}
        users = self.tables.users.join(rows.select("user_id").unique(), on="user_id", how="semi")
        for name in self.profile_categories:
            fields[_PROFILE + name] = _by_count(_spelled(users[name]), min_count)
        if self.video_features.categories:
            videos = self.tables.videos.join(rows.select("video_id").unique(), on="video_id", how="semi")
            for name, field in zip(self.video_features.categories, self.video_features.fields, strict=True):
                fields[field] = _by_count(videos[name].explode(), min_count)
        return Vocabulary(fields)

    @property
    def signals(self) -> Signals:
        """Own feedback signals, in the order of their columns of `Interactions.feedback`."""
        return self.info.signals

    @property
    def video_features(self) -> VideoFeatures:
        """Own features of videos."""
        return self.info.video_features

    def interactions(
        self,
        vocabulary: Vocabulary,
        numbers: Sequence[str] | None = None,
        signals: Signals | None = None,
        video_features: VideoFeatures | None = None,
    ) -> Interactions:
        """Return the log as arrays, sorted by (user, timestamp, video).

        Ids that are missing or outside the vocabulary become `UNKNOWN`. Users are those of the log, in the
        order of their ids; unknown profile features are NaN or `UNKNOWN`, and flags of exposures before the
        log that are unknown are 0.

        Args:
            vocabulary: its `profile.<name>` fields define the categorical features and their order, so
                that a bundle reads another dataset's log in the layout it was fitted on.
            numbers: names of the numeric features, as in a bundle's manifest; `None` uses the dataset's.
            signals: likewise; those that the dataset does not have are 0.
            video_features: likewise; those that the dataset does not have are unknown.
        """
        signals = self.signals if signals is None else signals
        features = self.video_features if video_features is None else video_features
        ids = np.stack([self._codes[name].indices(name, vocabulary) for name in SEQUENCE_ID_COLUMNS], axis=1)
        user = self._codes["user_id"].code.astype(np.int64)
        time = self.log["timestamp_ms"].to_numpy()
        order = np.lexsort((ids[:, 0], time, user))
        history_ids, history_feedback = self._before_the_log(vocabulary)
        return Interactions(
            user=user[order],
            ids=ids[order],
            timestamp_ms=time[order],
            feedback=feedback_columns(self.log, signals)[order],
            user_ids=tuple(self._codes["user_id"].values),
            profile=self._profile(self.profile_numbers if numbers is None else numbers),
            profile_ids=self._profile_ids(vocabulary),
            history_ids=history_ids,
            history_feedback=history_feedback,
            signals=signals,
            video_features=self._features_of_videos(vocabulary, features, order) if features.names else None,
        )

    def _features_of_videos(
        self, vocabulary: Vocabulary, features: VideoFeatures, order: I64
    ) -> FeaturesOfVideos:
        codes = self._codes["video_id"]
        ids = pl.DataFrame({"video_id": codes.values}, schema={"video_id": pl.String})
        names = [name for name in features.names if name in self.tables.videos.columns]
        known = ids.join(self.tables.videos.select("video_id", *names), on="video_id", how="left",
                         maintain_order="left")  # fmt: skip
        values = known.select(names).to_dicts() if names else [{}] * len(ids)
        numbers, categories = video_feature_arrays(values, vocabulary, features)
        return FeaturesOfVideos(codes.code.astype(np.int64)[order], numbers, categories)

    def censored(self, vocabulary: Vocabulary) -> tuple[F64, F64, F64] | None:
        """Count long views before the log, whose watch times are unknown.

        Returns:
            For video, author and tag `[vocabulary size, 2]`: exposures with a known long-view flag, and
            those of them that were long views. `None` without `history.parquet`.
        """
        history = self.tables.history
        if history is None:
            return None
        known = history.filter(pl.col("long_view").is_not_null())
        if {"author_id", "tag"} <= set(self.tables.videos.columns):
            catalogue = self.tables.videos.select("video_id", "author_id", "tag")
            known = known.join(catalogue, on="video_id", how="left")
        tables = []
        for name in ("video_id", "author_id", "tag"):
            table = np.zeros((vocabulary.size(name), 2))
            if name in known.columns:
                code = _Codes.from_column(known[name]).indices(name, vocabulary)
                long_view = known["long_view"].to_numpy().astype(np.float64)
                table[:, 0] = np.bincount(code, minlength=len(table))
                table[:, 1] = np.bincount(code, long_view, minlength=len(table))
                table[UNKNOWN] = 0.0  # a sum over all unknown ids, not a count of one
            tables.append(table)
        return tables[0], tables[1], tables[2]

    def _before_the_log(self, vocabulary: Vocabulary) -> tuple[I64, F32]:
        """`[U, W]` and `[U, W, 2]`, as in `Interactions`."""
        values = self._codes["user_id"].values
        width = 0 if self.tables.history is None else HISTORY_LENGTH
        ids = np.full((len(values), width), PADDING, np.int64)
        feedback = np.zeros((len(values), width, len(HISTORY_COLUMNS)), np.float32)
        if self.tables.history is not None:
            users = pl.DataFrame({"user_id": values, "row": range(len(values))})
            back = pl.col("position").rank("ordinal").over("user_id").cast(pl.Int64)
            known = self.tables.history.join(users, on="user_id").with_columns(back=back)
            known = known.filter(pl.col("back") <= HISTORY_LENGTH)
            cell = known["row"].to_numpy(), HISTORY_LENGTH - known["back"].to_numpy()
            ids[cell] = vocabulary.encode("video_id", known["video_id"])
            for column, name in enumerate(HISTORY_COLUMNS):
                feedback[(*cell, column)] = known[name].fill_null(value=False).to_numpy()
        return ids, feedback

    @cached_property
    def _codes(self) -> dict[str, _Codes]:
        return {name: _Codes.from_column(self.log[name]) for name in ("user_id", *SEQUENCE_ID_COLUMNS)}

    @cached_property
    def _users(self) -> pl.DataFrame:
        """`users.parquet`, one row per user of the log, in the log's order of users."""
        ids = pl.DataFrame({"user_id": self._codes["user_id"].values}, schema={"user_id": pl.String})
        return ids.join(self.tables.users, on="user_id", how="left", maintain_order="left")

    def _profile(self, names: Sequence[str]) -> F32:
        """`[U, P]`"""
        columns = [
            self._feature(name).cast(pl.Float32, strict=False).fill_null(float("nan")).to_numpy()
            for name in names
        ]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self._users), 0), np.float32)

    def _profile_ids(self, vocabulary: Vocabulary) -> I64:
        """`[U, Q]`"""
        fields = [field for field in vocabulary.fields if field.startswith(_PROFILE)]
        columns = [
            vocabulary.encode(field, _spelled(self._feature(field.removeprefix(_PROFILE))))
            for field in fields
        ]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self._users), 0), np.int64)

    def _feature(self, name: str) -> pl.Series:
        """`[U]` one profile feature; null if this dataset does not have it."""
        if name in self._users.columns:
            return self._users[name]
        return pl.Series(name, [None] * len(self._users), dtype=pl.String)


@dataclass(frozen=True)
class _Codes:
    """A column of strings as integer codes, so that each distinct id is looked up once, not once per row."""

    values: list[str]
    """Ascending."""
    code: I32
    """`[N]` index into `values`; `len(values)` where the id is missing."""

    @classmethod
    def from_column(cls, column: pl.Series) -> _Codes:
        values = column.drop_nulls().unique().sort()
        code = column.replace_strict(
            values, pl.int_range(len(values), eager=True, dtype=pl.Int32), default=len(values),
            return_dtype=pl.Int32,
        )  # fmt: skip
        return cls(values.to_list(), code.to_numpy())

    def indices(self, field: str, vocabulary: Vocabulary) -> I64:
        table = np.append(vocabulary.encode(field, self.values), UNKNOWN)
        out: I64 = table[self.code]
        return out


def feedback_columns(log: pl.DataFrame, signals: Signals) -> F32:
    """Return `[N, 8 + S]` of N rows: `FEEDBACK_COLUMNS`, then the signals, 0 where the log has none."""
    names = (*FEEDBACK_COLUMNS, *signals.names)
    out = np.zeros((len(log), len(names)), np.float32)
    for column, name in enumerate(names):
        if name in log.columns:
            out[:, column] = log[name].cast(pl.Float32).to_numpy()
    return out


def _by_count(values: pl.Series, min_count: int) -> list[str]:
    counts = values.drop_nulls().alias("id").value_counts(name="n").filter(pl.col("n") >= min_count)
    return counts.sort("n", "id", descending=[True, False])["id"].to_list()


def _spelled(values: pl.Series) -> pl.Series:
    """Categories as the vocabulary writes them; null stays null."""
    if values.dtype == pl.String:
        return values
    whole = values.cast(pl.Int8) if values.dtype == pl.Boolean else values
    spelled = [None if v is None or v != v else category_of(v) for v in whole.to_list()]
    return pl.Series(values.name, spelled, dtype=pl.String)
