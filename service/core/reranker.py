"""Candidates and a user's state -> an ordered slate.

Shape suffixes: N candidates, K anchors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.features import candidate_arrays, context_arrays, sequence_arrays
from models.fusion import fuse
from models.runtime import Bundle
from models.schema import MAX_WATCH_TIME_S, Candidate, FeedbackEvent, Profile
from service.runtime.recorded import Recorded

F32 = npt.NDArray[np.float32]

EXPLAINED = ("anchor_weights", "anchor_ratio", "quantiles_s")
"""Outputs of the ranker that only an explanation needs: without one they are not computed."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where the scores come from. Shapes `[N]`, `[N, K]` and, for the quantiles, `[N, 3]`."""

    parts: dict[str, F32]
    """Per objective its part of the logarithm of the score; they add up to it."""
    anchor_weights: F32
    anchor_ratio: F32
    quantiles_s: F32
    """p10, p50, p90 of the watch time, in seconds."""


@dataclass(frozen=True, slots=True)
class Slate:
    """Every array is `[N]`, in the order of the candidates; `order` sorts."""

    order: list[int]
    """Positions of the candidates, best first; equal scores keep the caller's order."""
    score: F32
    watch_time_s: F32
    watch_ratio: F32
    objectives: dict[str, F32]
    explanation: Explanation | None
    history_length: int
    """Exposures the ranker has seen: at most the bundle's sequence length."""
    nonfinite: tuple[str, ...]
    """Outputs of which a value was not finite; it was replaced by the smallest one."""

    def outputs(self) -> Iterator[tuple[str, F32]]:
        """What the ranker predicted, by its names."""
        yield "watch_time_s", self.watch_time_s
        yield "watch_ratio", self.watch_ratio
        yield from self.objectives.items()


def distinct(candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[str]]:
    """Each video once, the first mention wins; and the ids that came again, each once."""
    first: dict[str, Candidate] = {}
    again: dict[str, None] = {}
    for c in candidates:
        if first.setdefault(c.video_id, c) is not c:
            again[c.video_id] = None
    return list(first.values()), list(again)


def checked_weights(bundle: Bundle, weights: Mapping[str, float] | None) -> dict[str, float]:
    """The caller's fusion weights, or the bundle's. What a caller leaves out counts 0.

    Raises:
        BadInput: a weight names no objective, is not finite, or all of them are 0.
    """
    if weights is None:
        return dict(bundle.manifest.weights)
    for name, weight in weights.items():
        if name not in bundle.manifest.objectives:
            raise BadInput(
                f"`weights` names {name!r}; this bundle has {', '.join(bundle.manifest.objectives)}."
            )
        if not math.isfinite(weight):
            raise BadInput(f"`weights.{name}` must be finite, found {weight}.")
    total = sum(abs(w) for w in weights.values())
    if not 0 < total < math.inf:
        raise BadInput("`weights` must not all be 0, and their sum must be finite.")
    return dict(weights)


def rerank(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    *,
    events: Sequence[FeedbackEvent],
    profile: Profile,
    tab: str | None,
    now_ms: int,
    weights: Mapping[str, float],
    explain: bool = False,
    recorded: Recorded | None = None,
) -> Slate:
    """Predict every candidate for one user and sort them.

    Args:
        bundle: taken once by the caller.
        candidates: N different videos, N > 0; unknown members are `None`.
        events: the user's exposures, oldest first; the newest that the bundle can read are used.
        profile: the user's features; may be empty.
        tab: where the slate is shown; `None` takes the bundle's default.
        now_ms: the moment of the ranking.
        weights: fusion weights that `checked_weights` has passed.
        explain: compute what `Explanation` holds too.
        recorded: told of a slate whose predictions are all finite.
    """
    manifest = bundle.manifest
    recent = events[-manifest.sequence_length :]
    inputs = (
        sequence_arrays(recent, bundle.vocabulary, now_ms)
        | candidate_arrays(candidates, bundle.vocabulary)
        | context_arrays(
            profile,
            manifest.default_tab if tab is None else tab,
            bundle.vocabulary,
            manifest.profile_numbers,
            manifest.profile_categories,
        )
    )
    wanted = dict.fromkeys(("watch_time_s", "watch_ratio", *manifest.objectives))
    out = bundle.run_ranker(inputs, [*wanted, *(EXPLAINED if explain else ())])
    nonfinite = [name for name, x in out.items() if not np.isfinite(x).all()]
    if recorded is not None and not nonfinite:
        recorded.slate(inputs)
    for name in nonfinite:  # e.g. a duration below what float32 can hold
        finite: F32 = np.nan_to_num(out[name], nan=0.0, posinf=MAX_WATCH_TIME_S, neginf=0.0)
        out[name] = finite
    objectives = {name: _row(out[name]) for name in manifest.objectives}
    score_N, parts = fuse(objectives, weights)
    return Slate(
        order=np.argsort(-score_N, kind="stable").tolist(),
        score=score_N,
        watch_time_s=_row(out["watch_time_s"]),
        watch_ratio=_row(out["watch_ratio"]),
        objectives=objectives,
        explanation=Explanation(
            parts, _row(out["anchor_weights"]), _row(out["anchor_ratio"]), _row(out["quantiles_s"])
        )
        if explain
        else None,
        history_length=len(recent),
        nonfinite=tuple(nonfinite),
    )


def _row(x: npt.NDArray[Any]) -> F32:
    """The one user of a batch of one."""
    first: F32 = x[0]
    return first
