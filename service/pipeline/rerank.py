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

from models.arrays import F32
from models.errors import BadInput
from models.features import (
    Array,
    Candidates,
    Exposures,
    candidate_arrays,
    context_arrays,
    sequence_arrays,
)
from models.fusion import fuse
from models.runtime import Bundle
from models.schema import MAX_WATCH_TIME_S, Profile
from service.inference.gpu_batching import Batches
from service.inference.traffic_sample import Recorded

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


def distinct(candidates: Candidates) -> tuple[Candidates, list[str]]:
    """Each video once, the first mention wins; and the ids that came again, each once."""
    ids = candidates.video_id
    if len(set(ids)) == len(ids):
        return candidates, []
    first: dict[str, int] = {}
    again: dict[str, None] = {}
    for place, video_id in enumerate(ids):
        if first.setdefault(video_id, place) != place:
            again[video_id] = None
    return candidates.take(list(first.values())), list(again)


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


def checked_objectives(bundle: Bundle, objectives: Sequence[str] | None) -> tuple[str, ...]:
    """The objectives that an answer tells, in the bundle's order: the caller's choice, or all.

    Raises:
        BadInput: one is no objective of this bundle.
    """
    known = bundle.manifest.objectives
    if objectives is None:
        return known
    for name in objectives:
        if name not in known:
            raise BadInput(f"`objectives` names {name!r}; this bundle has {', '.join(known)}.")
    return tuple(name for name in known if name in objectives)


def arrays(
    bundle: Bundle,
    candidates: Candidates,
    *,
    exposures: Exposures,
    profile: Profile,
    tab: str | None,
    now_ms: int,
) -> dict[str, Array]:
    """What the ranker is given, see `rerank`."""
    manifest = bundle.manifest
    return (
        sequence_arrays(exposures.newest(manifest.sequence_length), bundle.vocabulary, now_ms)
        | candidate_arrays(candidates, bundle.vocabulary)
        | context_arrays(
            profile,
            manifest.default_tab if tab is None else tab,
            bundle.vocabulary,
            manifest.profile_numbers,
            manifest.profile_categories,
        )
    )


def outputs(bundle: Bundle, *, explain: bool) -> list[str]:
    """What the ranker is asked for."""
    wanted = dict.fromkeys(("watch_time_s", "watch_ratio", *bundle.manifest.objectives))
    return [*wanted, *(EXPLAINED if explain else ())]


def slate(
    bundle: Bundle, inputs: Mapping[str, Array], out: dict[str, Array], weights: Mapping[str, float]
) -> Slate:
    """Sort by what the ranker has answered, see `rerank`."""
    nonfinite: list[str] = []
    if not np.isfinite(np.concatenate([x.ravel() for x in out.values()])).all():  # all at once: it is rare
        nonfinite = [name for name, x in out.items() if not np.isfinite(x).all()]
    for name in nonfinite:  # e.g. a duration below what float32 can hold
        finite: F32 = np.nan_to_num(out[name], nan=0.0, posinf=MAX_WATCH_TIME_S, neginf=0.0)
        out[name] = finite
    objectives = {name: _row(out[name]) for name in bundle.manifest.objectives}
    score_N, parts = fuse(objectives, weights)
    explanation = None
    if "anchor_weights" in out:
        explanation = Explanation(
            parts, _row(out["anchor_weights"]), _row(out["anchor_ratio"]), _row(out["quantiles_s"])
        )
    return Slate(
        order=np.argsort(-score_N, kind="stable").tolist(),
        score=score_N,
        watch_time_s=_row(out["watch_time_s"]),
        watch_ratio=_row(out["watch_ratio"]),
        objectives=objectives,
        explanation=explanation,
        history_length=inputs["sequence_ids"].shape[1],
        nonfinite=tuple(nonfinite),
    )


def rerank(
    bundle: Bundle,
    candidates: Candidates,
    *,
    exposures: Exposures,
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
        exposures: the user's, oldest first; the newest that the bundle can read are used.
        profile: the user's features; may be empty.
        tab: where the slate is shown; `None` takes the bundle's default.
        now_ms: the moment of the ranking.
        weights: fusion weights that `checked_weights` has passed.
        explain: compute what `Explanation` holds too.
        recorded: told of a slate whose predictions are all finite.
    """
    inputs = arrays(bundle, candidates, exposures=exposures, profile=profile, tab=tab, now_ms=now_ms)
    ranked = slate(bundle, inputs, bundle.run_ranker(inputs, outputs(bundle, explain=explain)), weights)
    if recorded is not None and not ranked.nonfinite:
        recorded.slate(inputs)
    return ranked


async def rerank_together(
    batches: Batches,
    bundle: Bundle,
    candidates: Candidates,
    *,
    weights: Mapping[str, float],
    explain: bool = False,
    recorded: Recorded | None = None,
    **asked: Any,
) -> Slate:
    """`rerank`, in one run with others who ask at the same time."""
    inputs = arrays(bundle, candidates, **asked)
    out = await batches.run(bundle, inputs, outputs(bundle, explain=explain))
    ranked = slate(bundle, inputs, out, weights)
    if recorded is not None and not ranked.nonfinite:
        recorded.slate(inputs)
    return ranked


def _row(x: npt.NDArray[Any]) -> F32:
    """The one user of a batch of one."""
    first: F32 = x[0]
    return first
