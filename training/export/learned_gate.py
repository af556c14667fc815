"""What a run must show of its learned labels before they are exported as learned."""

from __future__ import annotations

from typing import Final

from models.errors import BadInput
from models.manifest import LearnedLabels

LEAST_DISTANCE: Final = 0.1
"""Root mean square change of the log's labels from their start, in their deviations. Labels that stayed at a
start, but for rounding and smoothing, are closer."""


def check_learned(labels: LearnedLabels, *, allow: bool) -> LearnedLabels:
    """Refuse labels that were not learned: that did not move, or are not better than their twins.

    Better is a difference whose 95 % interval over users is above 0.

    Args:
        labels: what `fit` recorded.
        allow: export them all the same.

    Returns:
        The record for the manifest, with what is missing if that was allowed.

    Raises:
        BadInput: something is missing, and not allowed.
    """
    missing = "; ".join(_missing(labels))
    if not missing:
        return labels
    if not allow:
        raise BadInput(
            f"the labels were not shown to be learned: {missing}. Fit on a longer log or with other "
            "hyperparameters, or export with --allow-unlearned; the manifest then says so."
        )
    return labels.model_copy(update={"allowed_unlearned": missing})


def _missing(labels: LearnedLabels) -> list[str]:
    found = []
    if labels.gradient == "shuffled":
        found.append("their gradients were shuffled")
    if labels.distance < LEAST_DISTANCE:
        found.append(
            f"they moved by {labels.distance:.3f} deviations from their start, less than {LEAST_DISTANCE:g}"
        )
    if labels.evidence is None:
        why = (
            "the log has one window of days" if labels.learner == "closed_form" else "the learner has no twin"
        )
        return [*found, f"they were not compared with labels that were not learned, since {why}"]
    margins = {"frozen": labels.evidence.over_frozen, "shuffled": labels.evidence.over_shuffled}
    for twin, margin in margins.items():
        if not margin.low > 0:
            found.append(
                f"on later days they are not better than their {twin} twin ({margin.difference:+.4f}, 95 %: "
                f"{margin.low:+.4f} to {margin.high:+.4f})"
            )
    return found
