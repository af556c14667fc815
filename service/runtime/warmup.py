"""The first calls of a graph are slow; they are made here, before anybody waits for one."""

from __future__ import annotations

from typing import Final

from models.features import candidate_arrays, context_arrays, feedback_matrix, sequence_arrays
from models.runtime import Bundle
from models.schema import Candidate, FeedbackEvent

SLATES: Final = (1, 50, 200, 500)
"""Candidates of the warm-up slates."""


def warm(bundle: Bundle) -> None:
    """Run both graphs over made-up requests of common shapes, with and without a sequence."""
    manifest = bundle.manifest
    events = [
        FeedbackEvent(
            event_id=f"w{i}",
            user_id="warm-up",
            video_id=f"w{i}",
            timestamp_ms=i * 60_000,
            watch_time_s=float(i % 30),
            duration_s=20.0,
        )
        for i in range(manifest.sequence_length)
    ]
    for rows in (1, len(events)):
        bundle.run_labeler({"feedback": feedback_matrix(events[:rows])})
    context = context_arrays(
        {},
        manifest.default_tab,
        bundle.vocabulary,
        manifest.profile_numbers,
        manifest.profile_categories,
    )
    for size in SLATES:
        slate = [Candidate(video_id=f"w{i}", duration_s=20.0) for i in range(size)]
        for length in (0, len(events) // 2, len(events)):
            bundle.run_ranker(
                sequence_arrays(events[:length], bundle.vocabulary, now_ms=10**7)
                | candidate_arrays(slate, bundle.vocabulary)
                | context
            )
