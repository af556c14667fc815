"""Events to labels. Pure: the same events give the same labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from models.features import feedback_matrix, group_ids
from models.runtime import Bundle
from models.schema import FeedbackEvent, Profile


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of N events."""

    by_name: dict[str, list[float]]
    """Per label its N values in [0, 1], in the order of the events."""
    nonfinite: tuple[str, ...]
    """Labels of which a value was not finite; it became 0."""
    feedback: npt.NDArray[np.float32]
    """`[N, 8]` what they were computed from, columns as in `models.features.FEEDBACK_COLUMNS`."""


def label(
    bundle: Bundle,
    events: Sequence[FeedbackEvent],
    names: Sequence[str],
    profiles: Mapping[str, Profile] = MappingProxyType({}),
) -> Labels:
    """Compute what each event is worth as a training target.

    Args:
        bundle: taken once by the caller: a reload must not mix two versions.
        events: N events with known durations. N may be 0.
        names: labels that the bundle serves.
        profiles: profile features by user, for labels that compare exposures within groups of users
            (`Manifest.labels_by_user`); a user without any is compared with all.
    """
    feedback = feedback_matrix(events)
    if not events:
        return Labels({name: [] for name in names}, (), feedback)
    groups = group_ids(events, bundle.vocabulary, profiles, bundle.manifest.profile_categories)
    outputs = bundle.run_labeler({"feedback": feedback, "group_ids": groups}, names)
    values: dict[str, list[float]] = {}
    nonfinite = []
    for name in names:
        finite = outputs[name].astype(np.float64)
        if not np.isfinite(finite).all():
            nonfinite.append(name)
            finite = np.nan_to_num(finite, nan=0.0, posinf=1.0, neginf=0.0)
        values[name] = finite.clip(0.0, 1.0).round(6).tolist()
    return Labels(values, tuple(nonfinite), feedback)
