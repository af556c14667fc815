"""Events -> labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.features import feedback_matrix, group_ids
from models.runtime import Bundle
from models.schema import FeedbackEvent, Profile
from service.inference.traffic_sample import Recorded


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of N events."""

    by_name: dict[str, list[float]]
    """Per label its N values in [0, 1], in the order of the events."""
    nonfinite: tuple[str, ...]
    """Labels of which a value was not finite; it became 0."""
    feedback: npt.NDArray[np.float32]
    """`[N, 8]` what they were computed from, columns as in `models.features.FEEDBACK_COLUMNS`."""


def choose(bundle: Bundle, names: Sequence[str]) -> tuple[str, ...]:
    """The labels to compute: those asked for, each once, or the bundle's first.

    Raises:
        BadInput: the bundle does not serve one of them.
    """
    served = bundle.manifest.labels
    for name in names:
        if name not in served:
            raise BadInput(f"`labels` names {name!r}; this bundle serves {', '.join(served)}.")
    return tuple(dict.fromkeys(names)) or served[:1]


def needs_profiles(bundle: Bundle, names: Sequence[str]) -> bool:
    """Whether one of these labels compares within groups of users."""
    return not set(names).isdisjoint(bundle.manifest.labels_by_user)


def label(
    bundle: Bundle,
    events: Sequence[FeedbackEvent],
    names: Sequence[str],
    profiles: Mapping[str, Profile] = MappingProxyType({}),
    recorded: Recorded | None = None,
) -> Labels:
    """What each event is worth as a training target.

    Args:
        bundle: taken once by the caller: a reload must not mix two versions.
        events: N events with known durations. N may be 0.
        names: outputs of the labeler.
        profiles: profile features by user, where `needs_profiles`; a user without is compared with everybody.
        recorded: told of events whose labels are all finite.
    """
    feedback = feedback_matrix(events)
    if not events:
        return Labels({name: [] for name in names}, (), feedback)
    crowds = group_ids(events, bundle.vocabulary, profiles, bundle.manifest.profile_categories)
    out = bundle.run_labeler({"feedback": feedback, "group_ids": crowds}, names)
    values: dict[str, list[float]] = {}
    nonfinite = []
    for name in names:
        clean = out[name].astype(np.float64)
        if not np.isfinite(clean).all():
            nonfinite.append(name)
            clean = np.nan_to_num(clean, nan=0.0, posinf=1.0, neginf=0.0)
        values[name] = clean.clip(0.0, 1.0).round(6).tolist()
    if recorded is not None and not nonfinite:
        recorded.body(feedback)
    return Labels(values, tuple(nonfinite), feedback)
