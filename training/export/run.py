"""Export one of a run's two fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from models.errors import BadInput
from models.histogram import Histogram
from models.runtime import Bundle
from training.data import Dataset
from training.export.bundle import (
    export,
)
from training.export.drift_reference import reference
from training.export.learned_gate import check_learned
from training.export.reaction_gate import check_reactions
from training.train import run_folder
from training.train.identity import same_log

WHICH: Final[Mapping[str, run_folder.Which]] = {
    "final": "release",
    "release": "release",
    "evaluation": "evaluation",
    "judged": "evaluation",
}
"""Values of `--which`, older names among them."""


def export_run(
    folder: Path, which: str, to: Path, dataset: Dataset | None, *, allow_unlearned: bool = False
) -> Path:
    """Write a run's fit as one version of the bundle into `to`.

    Args:
        folder: what `fit` wrote.
        which: a key of `WHICH`.
        to: the folder of versions.
        dataset: what the run was fitted on: the manifest then holds histograms to measure drift by.
        allow_unlearned: export labels that were not shown to be learned, see `check_learned`.

    Raises:
        BadInput: there is no such fit, `folder` is not a run, `dataset` is not what it was fitted on, the
            labels were not shown to be learned, or a hate lifts candidates.
    """
    if which not in WHICH:
        raise BadInput(f"--which must be final or evaluation, found {which!r}.")
    saved = run_folder.read(folder, WHICH[which])
    fitted = saved.fitted
    learned = check_learned(fitted.learned_labels, allow=allow_unlearned)
    check_reactions(saved.evaluation)
    log = None
    if dataset is not None:
        log = same_log(dataset, saved.training).interactions(
            fitted.vocabulary, saved.profile_numbers, saved.signals, saved.video_features
        )

    def histograms(bundle: Bundle) -> Mapping[str, Histogram]:
        if log is None:
            return {}
        return reference(bundle, log, until_ms=saved.watermark_ms, seed=saved.config.seed)

    return export(
        fitted.label_makers,
        fitted.ranker,
        fitted.vocabulary,
        to,
        training=saved.training.model_copy(update={"watermark_ms": saved.watermark_ms}),
        weights=fitted.weights,
        sequence_length=saved.config.loop.sequence_length,
        profile_numbers=saved.profile_numbers,
        profile_categories=saved.profile_categories,
        signals=saved.signals,
        video_features=saved.video_features,
        default_tab=saved.default_tab,
        learned_labels=learned,
        evaluation=saved.evaluation,
        reference=None if log is None else histograms,
    )
