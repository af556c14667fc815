"""Events to labels. Pure: the same events give the same labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from models.features import feedback_matrix, group_ids
from models.manifest import PERCENTILES
from models.runtime import Bundle
from models.schema import FeedbackEvent, Profile


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of N events."""

    by_name: dict[str, list[float]]
    """Per label its N values in [0, 1], in the order of the events."""
    percentiles: dict[str, list[float]]
    """Per label the N shares of training rows below it; empty if the bundle does not know them."""
    nonfinite: tuple[str, ...]
    """Labels of which a value was not finite; it became 0."""
    feedback: npt.NDArray[np.float32]
    """`[N, 8 + S]` what they were computed from, see `models.features.feedback_matrix`."""


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
    feedback = feedback_matrix(events, bundle.manifest.signals)
    if not events:
        return Labels({name: [] for name in names}, {}, (), feedback)
    groups = group_ids(events, bundle.vocabulary, profiles, bundle.manifest.profile_categories)
    ranked = PERCENTILES in bundle.labeler_outputs
    wanted = [*names, PERCENTILES] if ranked else names
    outputs = bundle.run_labeler({"feedback": feedback, "group_ids": groups}, wanted)
    columns = [outputs[name] for name in names]
    if ranked:
        labels = bundle.manifest.labels
        columns += [outputs[PERCENTILES][:, labels.index(name)] for name in names]
    values = np.array(columns, np.float64)
    finite = np.isfinite(values)
    nonfinite: list[str] = []
    if not finite.all():
        nonfinite = [name for name, column in zip(names, finite, strict=False) if not column.all()]
        values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
    rows = np.minimum(np.maximum(values, 0.0), 1.0).round(6).tolist()
    count = len(names)
    by_name = dict(zip(names, rows[:count], strict=True))
    percentiles = dict(zip(names, rows[count:], strict=True)) if ranked else {}
    return Labels(by_name, percentiles, tuple(nonfinite), feedback)
