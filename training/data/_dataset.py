"""A prepared data set: the vocabulary is fitted here, and string ids become its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

from models.arrays import F32, F64, I32, I64
from models.features import FEEDBACK_COLUMNS, SEQUENCE_ID_COLUMNS, category_of
from models.vocabulary import UNKNOWN, Vocabulary
from training.data._interactions import Interactions
from training.data._split import Boundaries
from training.data._tables import Info, Tables

# Shape suffixes: N rows of the log, U users in it, P and Q profile features.


_PROFILE: Final = "profile."
"""Fields of the vocabulary that hold a categorical profile feature begin with this."""


@dataclass(frozen=True)
class Dataset:
    """One data set in memory. `load` reads it from a folder; the synthetic world makes one directly."""

    tables: Tables

    @property
    def info(self) -> Info:
        """`dataset.json`."""
        return self.tables.info

    @property
    def log(self) -> pl.DataFrame:
        """`interactions.parquet`, oldest first: ids are strings, times of the log milliseconds."""
        return self.tables.interactions

    @property
    def profile_numbers(self) -> tuple[str, ...]:
        """Names of the numeric profile features, in the order of `Interactions.profile`."""
        return self.info.profile.numbers

    @property
    def profile_categories(self) -> tuple[str, ...]:
        """Names of the categorical ones, in the order of `Interactions.profile_ids`."""
        return self.info.profile.categories

    def last_days(self, *, test_days: int, stop_days: int, meta_days: int = 0) -> Boundaries:
        """Windows of whole days from the end of the log; see `Boundaries.at_last_days`."""
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
        """The ids seen before a moment, the most frequent first (ties by id).

        Args:
            before_ms: rows from this time on are not looked at, so that nothing of the days a model is
                judged on is in its tables; `None` takes every row.
            min_count: ids on fewer rows than this are left out (users, for a profile category).

        Returns:
            Fields `video_id`, `author_id`, `tag`, `tab`, and `profile.<name>` for every categorical
            profile feature, fitted on the users who have such a row.
        """
        seen = self.log if before_ms is None else self.log.filter(pl.col("timestamp_ms") < before_ms)
        fields = {name: _by_count(seen[name], min_count) for name in SEQUENCE_ID_COLUMNS}
        users = self.tables.users.join(seen.select("user_id").unique(), on="user_id", how="semi")
        for name in self.profile_categories:
            fields[_PROFILE + name] = _by_count(_spelled(users[name]), min_count)
        return Vocabulary(fields)

    def interactions(self, vocabulary: Vocabulary, numbers: Sequence[str] | None = None) -> Interactions:
        """The whole log as columns, sorted by (user, timestamp, video).

        Ids outside the vocabulary, and missing ones, become `UNKNOWN`. Users are those of the log, in
        the order of their ids; what `users.parquet` does not tell of them is NaN or `UNKNOWN`.

        Args:
            vocabulary: its `profile.<name>` fields say which categorical features there are, in which
                order: a bundle reads another data set's log in the layout it was fitted on.
            numbers: names of the numeric features, as in a bundle's manifest; `None` takes the data set's.
        """
        ids = np.stack([self._codes[name].rows(name, vocabulary) for name in SEQUENCE_ID_COLUMNS], axis=1)
        user = self._codes["user_id"].code.astype(np.int64)
        time = self.log["timestamp_ms"].to_numpy()
        order = np.lexsort((ids[:, 0], time, user))
        feedback = np.stack([self.log[name].cast(pl.Float32).to_numpy() for name in FEEDBACK_COLUMNS], axis=1)
        return Interactions(
            user=user[order],
            ids=ids[order],
            timestamp_ms=time[order],
            feedback=feedback[order],
            user_ids=tuple(self._codes["user_id"].values),
            profile=self._profile(self.profile_numbers if numbers is None else numbers),
            profile_ids=self._profile_ids(vocabulary),
        )

    def censored(self, vocabulary: Vocabulary) -> tuple[F64, F64, F64] | None:
        """What is known of videos from exposures before the log, whose watch times are not known.

        Returns:
            For video, author and tag `[rows of the vocabulary, 2]`: exposures of which it is known whether
            the view was long, and how many were. `None` without `history.parquet`.
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
                code = _Codes.of(known[name]).rows(name, vocabulary)
                long_view = known["long_view"].to_numpy().astype(np.float64)
                table[:, 0] = np.bincount(code, minlength=len(table))
                table[:, 1] = np.bincount(code, long_view, minlength=len(table))
                table[UNKNOWN] = 0.0  # of all unknown ids together, which says nothing of one of them
            tables.append(table)
        return tables[0], tables[1], tables[2]

    @cached_property
    def _codes(self) -> dict[str, _Codes]:
        return {name: _Codes.of(self.log[name]) for name in ("user_id", *SEQUENCE_ID_COLUMNS)}

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
        """`[U]` one profile feature; null throughout if this data set does not have it."""
        if name in self._users.columns:
            return self._users[name]
        return pl.Series(name, [None] * len(self._users), dtype=pl.String)


@dataclass(frozen=True)
class _Codes:
    """A column of strings as small integers: each distinct id is looked up once, not once per row."""

    values: list[str]
    """Ascending."""
    code: I32
    """`[N]` index into `values`; `len(values)` where the id is missing."""

    @classmethod
    def of(cls, column: pl.Series) -> _Codes:
        values = column.drop_nulls().unique().sort()
        code = column.replace_strict(
            values, pl.int_range(len(values), eager=True, dtype=pl.Int32), default=len(values),
            return_dtype=pl.Int32,
        )  # fmt: skip
        return cls(values.to_list(), code.to_numpy())

    def rows(self, field: str, vocabulary: Vocabulary) -> I64:
        table = np.append(vocabulary.encode(field, self.values), UNKNOWN)
        out: I64 = table[self.code]
        return out


def _by_count(values: pl.Series, min_count: int) -> list[str]:
    counts = values.drop_nulls().alias("id").value_counts(name="n").filter(pl.col("n") >= min_count)
    return counts.sort("n", "id", descending=[True, False])["id"].to_list()


def _spelled(values: pl.Series) -> pl.Series:
    """Categories as the vocabulary spells them; null stays null."""
    if values.dtype == pl.String:
        return values
    whole = values.cast(pl.Int8) if values.dtype == pl.Boolean else values
    spelled = [None if v is None or v != v else category_of(v) for v in whole.to_list()]
    return pl.Series(values.name, spelled, dtype=pl.String)
