"""Synthetic requests that a new bundle is run through, beyond its own self-test, before it answers."""

from __future__ import annotations

from itertools import product
from typing import Final

from models.errors import ContractMismatch
from models.features import (
    HISTORY_LENGTH,
    NO_HISTORY,
    Candidates,
    Exposures,
    candidate_arrays,
    context_arrays,
    feedback_matrix,
    group_ids,
    history_arrays,
    sequence_arrays,
)
from models.runtime import Bundle
from models.schema import Candidate, FeedbackEvent
from service.inference.gpu_batching import CANDIDATES, MAX_CANDIDATES, USERS, rank_together

SLATES: Final = (1, 50, 200, 500)
"""Candidates of the warm-up slates."""

PREDICTIONS: Final = {"watch_time_s", "watch_ratio", "anchor_weights", "anchor_ratio", "quantiles_s"}
"""Outputs of every slate, or of its explanation, besides the objectives."""


def warm_up(bundle: Bundle) -> None:
    """Run both graphs over synthetic requests of common shapes: the first calls of a graph are slow.

    Raises:
        ContractMismatch: a graph lacks an output or takes an input that this service does not know.
    """
    manifest = bundle.manifest
    if missing := sorted(PREDICTIONS - {spec.name for spec in manifest.ranker.outputs}):
        raise ContractMismatch(
            f"{manifest.version}: the ranker has no output {missing[0]!r}; export the bundle again."
        )
    events = [
        FeedbackEvent(
            event_id=f"w{i}",
            user_id="warm-up",
            video_id=f"w{i}",
            timestamp_ms=i * 60_000,
            watch_time_s=float(i % 30),
            duration_s=20.0,
        )
        for i in range(max(manifest.sequence_length, HISTORY_LENGTH))
    ]
    if unknown := sorted({spec.name for spec in manifest.labeler.inputs} - {"feedback", "group_ids"}):
        raise ContractMismatch(
            f"{manifest.version}: the labeler takes {unknown[0]!r}, which we do not give; export it again."
        )
    for rows in (1, len(events)):
        groups = group_ids(events[:rows], bundle.vocabulary, {}, manifest.profile_categories)
        feedback = feedback_matrix(events[:rows], manifest.signals)
        bundle.run_labeler({"feedback": feedback, "group_ids": groups})
    context = context_arrays(
        {}, manifest.default_tab, bundle.vocabulary, manifest.profile_numbers, manifest.profile_categories
    )
    graph_inputs = {spec.name for spec in manifest.ranker.inputs}
    outputs = [spec.name for spec in manifest.ranker.outputs]
    for size in SLATES:
        slate = [Candidate(video_id=f"w{i}", duration_s=20.0) for i in range(size)]
        for share in (0, 0.5, 1):
            sequence, history = (
                Exposures.from_events(events[: int(share * length)])
                for length in (manifest.sequence_length, HISTORY_LENGTH)
            )
            inputs = (
                sequence_arrays(sequence, bundle.vocabulary, 10**7, manifest.signals)
                | (history_arrays(history, NO_HISTORY, bundle.vocabulary) if manifest.reads_history else {})
                | candidate_arrays(Candidates.from_rows(slate), bundle.vocabulary, manifest.video_features)
                | context
            )
            if graph_inputs != set(inputs):
                raise ContractMismatch(
                    f"{manifest.version}: the ranker takes {sorted(graph_inputs)}, we give {sorted(inputs)}."
                )
            bundle.run_ranker(inputs)
    if bundle.on_gpu:
        for users, candidates in product(USERS, CANDIDATES):
            if users * candidates <= MAX_CANDIDATES:
                filled_slate = Candidates.from_rows(slate[:1] * candidates)
                known = candidate_arrays(filled_slate, bundle.vocabulary, manifest.video_features)
                filled = inputs | known
                rank_together(bundle, [filled] * users, outputs)
