"""Slates of the served log that were drawn with known propensities, and what users did with them."""

# Shape suffixes: N slates, K positions, M candidates.

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl

from models.arrays import F32, F64, I64
from models.errors import BadInput
from models.features import FEEDBACK_COLUMNS
from models.runtime import Bundle
from models.served_log import LoggedSlate, decoded_lines, log_files
from training.export.batch_label import label_exposures
from training.off_policy import PlackettLuce
from training.rankers import OUTCOMES, outcomes

REWARDS: Final = ("watch_time_s", *(outcome.name for outcome in OUTCOMES))
"""What a shown video may be said to have earned."""


@dataclass(frozen=True, slots=True)
class ExploredSlates:
    """Slates that can answer for another policy: all drawn alike, without rules."""

    slates: Sequence[LoggedSlate]
    temperature: float
    epsilon: float
    left_out: dict[str, int]
    """Slates of the log that cannot answer, by reason."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the slates of a served log.

        Raises:
            BadInput: there is no log, or none of its slates was explored.
        """
        usable: dict[tuple[str, str], LoggedSlate] = {}
        left_out: Counter[str] = Counter()
        for path in log_files(folder, "slates"):
            for slate in decoded_lines(path, LoggedSlate):
                if not slate.propensity:
                    left_out["not explored"] += 1
                elif slate.rules:
                    left_out["changed by rules"] += 1
                elif usable.setdefault((slate.request_id, slate.user_id), slate) is not slate:
                    left_out["repeated"] += 1
        if not usable:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "none at all"
            raise BadInput(
                f"{folder} has no slate that was drawn by known propensities ({counts}). Without them no "
                "other ranking can be estimated: set REELRANK_EXPLORE, or send `explore` with requests, and "
                "log again."
            )
        kinds = Counter(map(_kind, usable.values()))
        kind, count = kinds.most_common(1)[0]
        if len(usable) > count:
            left_out["explored otherwise"] = len(usable) - count
        return cls([slate for slate in usable.values() if _kind(slate) == kind], *kind, dict(left_out))

    @property
    def users(self) -> I64:
        """`[N]` numbers of the users."""
        _, index_N = np.unique([slate.user_id for slate in self.slates], return_inverse=True)
        return index_N.astype(np.int64)

    def orders(self, positions: int) -> I64:
        """Return the shown candidates, `[N, K]`: the first ones, and -1 beyond the end of a slate."""
        length_N1 = np.array([len(slate.propensity) for slate in self.slates])[:, None]
        place_K = np.arange(positions)
        return np.where(place_K < length_N1, place_K, -1)

    def propensities(self, positions: int) -> F64:
        """Return the logged propensities given the videos above, `[N, K]`, 1 beyond the end of a slate."""
        return _padded([slate.propensity[:positions] for slate in self.slates], positions, 1.0)

    def policy(self, scores: Sequence[Sequence[float]]) -> PlackettLuce:
        """Return the policy that explores by other scores of the same candidates as the log was explored."""
        score_NM = _padded(scores, max(map(len, scores)), -np.inf)
        if self.temperature > 0:
            return PlackettLuce(score_NM, self.temperature, self.epsilon)
        # At temperature 0 slates are sorted: differences that no chance makes up for.
        rank_NM = np.argsort(np.argsort(-score_NM, axis=1, kind="stable"), axis=1)
        return PlackettLuce(np.where(np.isfinite(score_NM), -1e6 * rank_NM, -np.inf), 1.0, self.epsilon)

    def rewards(self, exposures: pl.DataFrame, reward: str, positions: int, bundle: Bundle) -> F64:
        """Return what each shown video earned, `[N, K]`: 0 if no event says that it was watched.

        Args:
            exposures: from `served_exposures`.
            reward: one of `REWARDS`, or a label of the bundle.
            positions: K.
            bundle: whose labels are meant.

        Raises:
            BadInput: the reward is unknown, or no event names a slate.
        """
        labels = bundle.manifest.labels
        if reward not in (*REWARDS, *labels):
            raise BadInput(f"unknown reward {reward!r}; known are {', '.join((*REWARDS, *labels))}.")
        answered = exposures.filter(pl.col("request_id").is_not_null())
        if reward in labels:
            value_E = label_exposures(bundle, answered, reward).astype(np.float64)
        else:
            value_E = _reward(answered.select(FEEDBACK_COLUMNS).cast(pl.Float32).to_numpy(), reward)
        keys = zip(*(answered[name] for name in ("request_id", "user_id", "video_id")), strict=True)
        earned = dict(zip(keys, value_E.tolist(), strict=True))
        rows = [
            [
                earned.get((slate.request_id, slate.user_id, video), 0.0)
                for video in _returned(slate, positions)
            ]
            for slate in self.slates
        ]
        shown = ((slate, video) for slate in self.slates for video in slate.video_id)
        if not any((slate.request_id, slate.user_id, video) in earned for slate, video in shown):
            raise BadInput(
                "no event of the log names the slate that showed its video; send the slate's `request_id` "
                "with events."
            )
        return _padded(rows, positions, 0.0)


def _returned(slate: LoggedSlate, positions: int) -> list[str]:
    return slate.video_id[: min(positions, len(slate.propensity))]


def _kind(slate: LoggedSlate) -> tuple[float, float]:
    return slate.explore.get("temperature", 0.0), slate.explore.get("epsilon", 0.0)


def _reward(feedback_E8: F32, reward: str) -> F64:
    if reward == "watch_time_s":
        return feedback_E8[:, 0].astype(np.float64)
    column = [outcome.name for outcome in OUTCOMES].index(reward)
    return outcomes(feedback_E8)[:, column].astype(np.float64)


def _padded(rows: Sequence[Sequence[float]], width: int, fill: float) -> F64:
    out = np.full((len(rows), width), fill)
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out
