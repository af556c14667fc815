"""What both peers do with a request, written with pydantic, Redis and ONNX Runtime.

It runs in the peers' environments and takes bundle and features from `models/`: a second implementation could
be wrong or slow, and neither is what is compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from pydantic import BaseModel, TypeAdapter

from models.features import (
    NO_HISTORY,
    Candidates,
    Exposures,
    candidate_arrays,
    context_arrays,
    history_arrays,
    sequence_arrays,
)
from models.fusion import fuse
from models.runtime import Bundle
from models.schema import Candidate as KnownCandidate
from models.schema import FeedbackEvent

BUNDLE: Final = "PEER_BUNDLE"
STORE: Final = "PEER_STORE"
WORKERS: Final = "PEER_WORKERS"
PORT: Final = "PEER_PORT"
"""Variables that configure a peer: a version's folder, the store's URL, two numbers."""


class Candidate(BaseModel):
    """A candidate of a request."""

    video_id: str
    duration_s: float | None = None
    author_id: str | None = None
    tag: str | None = None
    published_ms: int | None = None


class Request(BaseModel):
    """The members of `/rerank` that are compared."""

    user_id: str
    timestamp_ms: int
    candidates: list[Candidate]


class Item(BaseModel):
    """One video of a slate."""

    video_id: str
    rank: int
    score: float
    watch_time_s: float


class Slate(BaseModel):
    """A reply."""

    items: list[Item]


class Event(BaseModel):
    """One exposure of a sequence."""

    video_id: str
    timestamp_ms: int
    watch_time_s: float
    duration_s: float
    like: bool = False
    follow: bool = False
    comment: bool = False
    forward: bool = False
    hate: bool = False
    profile_enter: bool = False
    author_id: str | None = None
    tag: str | None = None
    tab: str | None = None
    signals: dict[str, bool | float] | None = None


_HISTORY: Final = TypeAdapter(list[Event])


def history_key(user_id: str) -> str:
    """Return the key of a user's exposures: a JSON array, oldest first."""
    return f"peer:history:{user_id}"


class Ranker:
    """The graph in one process.

    Args:
        folder: a version of the bundle.

    Raises:
        ReelrankError: it cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        self._bundle = Bundle.load(folder, threads=1)
        manifest = self._bundle.manifest
        self._weights = dict(manifest.weights)
        self._outputs = list(dict.fromkeys(("watch_time_s", *manifest.objectives)))
        self._context = context_arrays(
            {},
            manifest.default_tab,
            self._bundle.vocabulary,
            manifest.profile_numbers,
            manifest.profile_categories,
        )

    def rank(self, request: Request, history: bytes | None) -> list[dict[str, Any]]:
        """Rank one slate.

        Args:
            request: user, time and candidates.
            history: the value at `history_key`; `None` for a cold-start user.

        Returns:
            The members of an `Item` for each candidate, best first; equal scores keep the caller's order.
        """
        manifest, vocabulary = self._bundle.manifest, self._bundle.vocabulary
        events = [] if history is None else _HISTORY.validate_json(history)
        # Features read members by name, so the pydantic objects need no conversion.
        exposures = Exposures.from_events(cast("list[FeedbackEvent]", events))
        recent, older = exposures.newest(manifest.sequence_length), exposures.older(manifest.sequence_length)
        candidates = cast("list[KnownCandidate]", request.candidates)
        out = self._bundle.run_ranker(
            sequence_arrays(recent, vocabulary, request.timestamp_ms)
            | history_arrays(older, NO_HISTORY, vocabulary)
            | candidate_arrays(Candidates.from_rows(candidates), vocabulary)
            | self._context,
            self._outputs,
        )
        score, _ = fuse(
            {name: np.asarray(out[name][0], np.float32) for name in manifest.objectives}, self._weights
        )
        scores, watched = score.tolist(), out["watch_time_s"][0].tolist()
        return [
            {"video_id": candidates[i].video_id, "rank": rank, "score": scores[i], "watch_time_s": watched[i]}
            for rank, i in enumerate(np.argsort(-score, kind="stable").tolist(), 1)
        ]
