"""Synthetic inputs of both graphs: golden rows, parity at export, and what a benchmark times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.features import FEEDBACK_COLUMNS, HISTORY_COLUMNS, HISTORY_LENGTH, Array
from models.signals import NO_SIGNALS, Signals
from models.video_features import MAX_VALUES, NO_VIDEO_FEATURES, VideoFeatures
from models.vocabulary import FIRST, PADDING, UNKNOWN, Vocabulary
from training.labels import LabelMakers


class SyntheticInputs:
    """Random inputs that cover what real ones may hold. No row of a log travels in a bundle."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        numbers: int,
        categories: Sequence[str],
        random: np.random.Generator,
        signals: Signals = NO_SIGNALS,
        video_features: VideoFeatures = NO_VIDEO_FEATURES,
    ) -> None:
        self._vocabulary = vocabulary
        self._numbers = numbers
        self._categories = categories
        self._random = random
        self._signals = signals
        self._video_features = video_features

    def feedback(self, n: int) -> Array:
        """Return `[n, 8 + S]`: 0 s watches, loops, flags, short and long videos, signals."""
        out = np.zeros((n, len(FEEDBACK_COLUMNS) + len(self._signals.names)), np.float32)
        out[:, 1] = np.exp(self._random.uniform(np.log(3), np.log(600), n))
        out[:, 0] = out[:, 1] * self._random.choice([0.0, 0.05, 0.5, 1.0, 2.5], n)
        out[:, 2:] = self._random.random((n, out.shape[1] - 2)) < 0.2
        amounts = len(self._signals.numbers)
        if amounts:
            out[:, -amounts:] *= np.exp(self._random.uniform(0, 5, (n, amounts)))
        return out

    def exposures(self, label_makers: LabelMakers, n: int) -> dict[str, Array]:
        """Return inputs of the label makers' graph."""
        first = self._categories[:1]
        user = self._ids(f"profile.{first[0]}", (n,)) if first else np.full(n, UNKNOWN, np.int64)
        return label_makers.inputs(self.feedback(n), np.stack([self._ids("tag", (n,)), user], axis=1))

    def request(self, users: int, candidates: int, steps: int) -> dict[str, Array]:
        """Return inputs of the ranker, also those that not every graph takes. Histories have as many entries
        as sequences have steps, at most `HISTORY_LENGTH`. Of the users after the first both are shorter,
        padded on the left."""
        feedback = self.feedback(users * steps)
        feedback = feedback.reshape(users, steps, feedback.shape[1])
        ids = np.stack(
            [self._ids(f, (users, steps)) for f in ("video_id", "author_id", "tag", "tab")], axis=-1
        )
        entries = min(steps, HISTORY_LENGTH)
        history_ids = self._ids("video_id", (users, entries))
        flags = self._random.random((users, entries, len(HISTORY_COLUMNS))) < 0.3
        age = np.sort(np.exp(self._random.uniform(0, np.log(1e6), (users, steps))), axis=1)[:, ::-1]
        for user in range(1, users):
            ids[user, : steps // 2] = PADDING
            feedback[user, : steps // 2] = 0
            history_ids[user, : entries // 2] = PADDING
            flags[user, : entries // 2] = False
        duration = np.exp(self._random.uniform(np.log(3), np.log(600), (users, candidates)))
        duration[self._random.random(duration.shape) < 0.1] = np.nan
        profile = np.exp(self._random.uniform(0, 8, (users, self._numbers)))
        profile[self._random.random(profile.shape) < 0.2] = np.nan
        profile_ids = [self._ids(f"profile.{name}", (users,)) for name in self._categories]
        return {
            "sequence_ids": ids,
            "sequence_feedback": feedback,
            "sequence_age_s": age.astype(np.float32),
            "candidate_ids": np.stack(
                [self._ids(f, (users, candidates)) for f in ("video_id", "author_id", "tag")], axis=-1
            ),
            "candidate_duration_s": duration.astype(np.float32),
            "context_ids": self._ids("tab", (users, 1)),
            "profile": profile.astype(np.float32),
            "profile_ids": np.array(profile_ids, np.int64).reshape(len(self._categories), users).T.copy(),
            "history_ids": history_ids,
            "history_feedback": flags.astype(np.float32),
            **self._features(users, candidates),
        }

    def _features(self, users: int, candidates: int) -> dict[str, Array]:
        """Own features of candidates, some of them unknown. Nothing is drawn where there are none."""
        features, shape = self._video_features, (users, candidates)
        numbers = np.zeros((*shape, features.width), np.float32)
        categories = np.full((*shape, len(features.fields), MAX_VALUES), PADDING, np.int64)
        if features.names:
            numbers[:] = self._random.normal(0, 3, numbers.shape)
            numbers[self._random.random(shape) < 0.2] = np.nan
        for column, field in enumerate(features.fields):
            for value in range(MAX_VALUES // 2):
                rows = self._ids(field, shape)
                categories[..., column, value] = np.where(self._random.random(shape) < 0.7, rows, PADDING)
        return {
            "candidate_numbers": numbers,
            "candidate_categories": categories.reshape(*shape, MAX_VALUES * len(features.fields)),
        }

    def _ids(self, field: str, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        rows = self._random.integers(FIRST, max(self._vocabulary.size(field), FIRST + 1), shape)
        known = (self._random.random(shape) > 0.1) & (rows < self._vocabulary.size(field))
        return np.where(known, rows, UNKNOWN)
