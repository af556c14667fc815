"""A bundle's predictions of logged slates, with what was known of their users at the time."""

# Shape suffixes: M candidates, T objectives, L exposures.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from models.arrays import F32
from models.features import (
    FEEDBACK_COLUMNS,
    NO_HISTORY,
    Candidates,
    Exposures,
    candidate_arrays,
    context_arrays,
    history_arrays,
    sequence_arrays,
)
from models.manifest import EXPECTED_WATCH_TIME
from models.runtime import Bundle
from models.served_log import LoggedSlate
from training.data.readers import signals_of


class SlatePredictions:
    """Runs a bundle's ranker on logged slates.

    A user's sequence is what the log has accepted of exposures that began before the slate. Profiles and
    imported histories and own features of videos are not in the log, so they count as unknown.

    Args:
        bundle: that predicts.
        exposures: of the served log.
        videos: `video_id`, `duration_s`, `author_id` and `tag` of candidates; those of exposures are known.
    """

    def __init__(self, bundle: Bundle, exposures: pl.DataFrame, videos: pl.DataFrame | None = None) -> None:
        self._bundle = bundle
        seconds = {EXPECTED_WATCH_TIME} & bundle.ranker_outputs
        self.names = (*bundle.manifest.objectives, *seconds)
        """What weights may name."""
        ordered = exposures.sort("timestamp_ms", "video_id")
        self._users = {
            str(user): _exposures(rows)
            for (user,), rows in ordered.partition_by("user_id", as_dict=True).items()
        }
        facts = exposures.group_by("video_id").agg(pl.col("duration_s", "author_id", "tag").max())
        given = facts.clear() if videos is None else videos.select(facts.columns)
        self._facts = {video: known for video, *known in (*facts.iter_rows(), *given.iter_rows())}

    def predict(self, slate: LoggedSlate) -> F32:
        """Predict every candidate, `[M, T]`, columns as `names`."""
        manifest, vocabulary = self._bundle.manifest, self._bundle.vocabulary
        known = self._history(slate)
        inputs = (
            sequence_arrays(
                known.newest(manifest.sequence_length), vocabulary, slate.timestamp_ms, manifest.signals
            )
            | candidate_arrays(self._candidates(slate), vocabulary, manifest.video_features)
            | context_arrays(
                {},
                manifest.default_tab if slate.tab is None else slate.tab,
                vocabulary,
                manifest.profile_numbers,
                manifest.profile_categories,
            )
        )
        if manifest.reads_history:
            inputs |= history_arrays(known.older(manifest.sequence_length), NO_HISTORY, vocabulary)
        found = self._bundle.run_ranker(inputs, self.names)
        return np.stack([found[name][0] for name in self.names], axis=1).astype(np.float32)

    def has_whole_history(self, slate: LoggedSlate) -> bool:
        """Whether the log has as many exposures before the slate as the service's ranker has read."""
        return len(self._history(slate)) >= slate.history_length

    def known_candidates(self, slates: Sequence[LoggedSlate]) -> float:
        """Return the share of the candidates whose duration, author and tag are known."""
        known = [video in self._facts for slate in slates for video in slate.video_id]
        return sum(known) / len(known)

    def _history(self, slate: LoggedSlate) -> Exposures:
        every = self._users.get(slate.user_id)
        if every is None:
            return Exposures.from_events([])
        return every.older(len(every) - int(np.searchsorted(every.timestamp_ms, slate.timestamp_ms)))

    def _candidates(self, slate: LoggedSlate) -> Candidates:
        unknown = (None, None, None)
        facts = [self._facts.get(video, unknown) for video in slate.video_id]
        duration_s, author_id, tag = (list(column) for column in zip(*facts, strict=True))
        return Candidates(slate.video_id, duration_s, author_id, tag)


def _exposures(rows: pl.DataFrame) -> Exposures:
    return Exposures(
        video_id=rows["video_id"].to_list(),
        author_id=rows["author_id"].to_list(),
        tag=rows["tag"].to_list(),
        tab=rows["tab"].to_list(),
        feedback=rows.select(FEEDBACK_COLUMNS).cast(pl.Float32).to_numpy(),
        timestamp_ms=rows["timestamp_ms"].to_numpy(),
        signals=signals_of(rows),
    )
