"""What a run must show of its learned labels before they are exported as learned."""

from __future__ import annotations

from models.errors import BadInput
from models.manifest import LearnedLabels
from training.labelcraft.evidence import missing_evidence


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
    missing = "; ".join(missing_evidence(labels))
    if not missing:
        return labels
    if not allow:
        raise BadInput(
            f"the labels were not shown to be learned: {missing}. Fit on a longer log or with other "
            "hyperparameters, or export with --allow-unlearned; the manifest then says so."
        )
    return labels.model_copy(update={"allowed_unlearned": missing})
