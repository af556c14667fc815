"""The graphs of a bundle without a service: what is left of a request's time is the service's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from models.features import (
    Array,
    Candidates,
    Exposures,
    candidate_arrays,
    context_arrays,
    feedback_matrix,
    group_ids,
    sequence_arrays,
)
from models.runtime import Bundle
from models.schema import Candidate, FeedbackEvent


def bare_ranker(bundle: Bundle, slate: dict[str, Any], history: Sequence[bytes]) -> Callable[[], object]:
    """Return a call of the ranker on the arrays of a slate.

    Args:
        bundle: with one thread a call, as the service has it.
        slate: the body of a `POST /rerank`.
        history: the user's events as JSON, oldest first.
    """
    manifest, vocabulary = bundle.manifest, bundle.vocabulary
    exposures = Exposures.from_events([FeedbackEvent(**json.loads(event)) for event in history])
    candidates = Candidates.from_rows([Candidate(**candidate) for candidate in slate["candidates"]])
    context = context_arrays(
        {}, manifest.default_tab, vocabulary, manifest.profile_numbers, manifest.profile_categories
    )
    inputs = sequence_arrays(exposures, vocabulary, slate["timestamp_ms"])
    inputs |= candidate_arrays(candidates, vocabulary) | context
    outputs = list(dict.fromkeys(("watch_time_s", "watch_ratio", *manifest.objectives)))
    return lambda: bundle.run_ranker(inputs, outputs)


def bare_label_maker(bundle: Bundle, events: Sequence[bytes]) -> Callable[[], object]:
    """Return a call of the label maker on the rows of events, which are JSON."""
    rows = [FeedbackEvent(**json.loads(event)) for event in events]
    inputs: dict[str, Array] = {
        "feedback": feedback_matrix(rows),
        "group_ids": group_ids(rows, bundle.vocabulary, {}, bundle.manifest.profile_categories),
    }
    return lambda: bundle.run_labeler(inputs)
