"""Candidates and a user's history to an ordered slate. Pure: the same inputs give the same slate.

    score = exp( Σ_o ω_o log v_o / Σ_o |ω_o| )        (`models.fusion`)

Shape suffixes: N candidates, K anchors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from models.errors import Invalid
from models.features import (
    NO_HISTORY,
    Array,
    Candidates,
    Exposures,
    HistoryEntries,
    candidate_arrays,
    context_arrays,
    history_arrays,
    sequence_arrays,
)
from models.fusion import fuse
from models.manifest import EXPECTED_SECONDS, EXPECTED_WATCH_TIME, OBJECTIVES, WATCH_STATES, Manifest
from models.runtime import Bundle
from models.schema import MAX_WATCH_TIME_S, Profile

F32 = npt.NDArray[np.float32]

SECONDS_OUTPUTS = ("watch_time_s", "watch_ratio", EXPECTED_SECONDS)

EXPLANATION_OUTPUTS = ("anchor_weights", "anchor_ratio", "quantiles_s", WATCH_STATES)
"""Outputs of the ranker that only an explanation needs."""


@dataclass(frozen=True, slots=True)
class RankingContext:
    """What a bundle ranks.

    Attributes:
        candidates: N different videos, N > 0; unknown members are `None`.
        exposures: the user's, oldest first; the newest that the bundle can read are the sequence, the others
            history.
        profile: the user's features; may be empty.
        tab: where the slate is shown; `None` takes the bundle's default.
        now_ms: the moment of the ranking.
        imported: what is known of the user from before the exposures.
    """

    candidates: Candidates
    exposures: Exposures
    profile: Profile
    tab: str | None
    now_ms: int
    imported: HistoryEntries = NO_HISTORY


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where the scores come from. Shapes `[N]`, `[N, K]` and, for quantiles and states, `[N, 3]`."""

    parts: dict[str, F32]
    """Per objective its part of the logarithm of the score; they add up to it."""
    anchor_weights: F32
    anchor_ratio: F32
    quantiles_s: F32
    """p10, p50, p90 of the watch time, in seconds."""
    states: F32 | None = None
    """Probabilities of `models.metrics.STATES`; `None` of a bundle without them."""


@dataclass(frozen=True, slots=True)
class Slate:
    """An ordered slate of N candidates, by column, in the order of the candidates; `order` sorts."""

    order: npt.NDArray[np.intp]
    """`[N]` indices of the candidates, best first; equal scores keep the caller's order."""
    score: F32
    """`[N]`."""
    names: tuple[str, ...]
    """Of the predictions: `watch_time_s`, `watch_ratio`, `expected_watch_time_s` if the bundle has it, the
    bundle's objectives, and `expected_watch_time` if a weight names it."""
    predictions: F32
    """`[C, N]`."""
    explanation: Explanation | None
    inputs: Mapping[str, Array]
    """Of the ranker."""
    nonfinite: tuple[str, ...]
    """Outputs of which a value was not finite; it was replaced by the smallest one."""

    @property
    def history_length(self) -> int:
        """Exposures that the ranker has read: at most the bundle's sequence length."""
        return int(self.inputs["sequence_ids"].shape[1])

    @property
    def watch_time_s(self) -> F32:
        """Predicted watch times `[N]`, in seconds."""
        watch_time_s: F32 = self.predictions[0]
        return watch_time_s


def fusion_weights(manifest: Manifest, weights: Mapping[str, float] | None) -> dict[str, float]:
    """Return the caller's fusion weights, or the bundle's. An objective that a caller leaves out counts 0.

    Raises:
        Invalid: a weight names neither an objective nor `expected_watch_time` of a bundle that has it, is not
            finite, or all of them are 0.
    """
    if weights is None:
        return manifest.weights
    for name, weight in weights.items():
        if name not in manifest.objectives:
            outputs = {spec.name for spec in manifest.ranker.outputs}
            known = (*manifest.objectives, *(outputs & {EXPECTED_WATCH_TIME}))
            if name not in known:
                raise Invalid(f"`weights` names {name!r}; this bundle has {', '.join(known)}.", loc="weights")
        if not math.isfinite(weight):
            raise Invalid(f"`weights.{name}` must be finite, found {weight}.", loc="weights")
    total = sum(abs(w) for w in weights.values())
    if not 0 < total < math.inf:
        raise Invalid("`weights` must not all be 0, and their sum must be finite.", loc="weights")
    return dict(weights)


def returned_objectives(manifest: Manifest, objectives: Sequence[str] | None) -> tuple[str, ...]:
    """Return the objectives of a reply, in the bundle's order: the caller's choice, or all.

    Raises:
        Invalid: one is no objective of this bundle.
    """
    known = manifest.objectives
    if objectives is None:
        return known
    for name in objectives:
        if name not in known:
            found = f"`objectives` names {name!r}; this bundle has {', '.join(known)}."
            raise Invalid(found, loc="objectives")
    return tuple(name for name in known if name in objectives)


def rank(
    bundle: Bundle, context: RankingContext, weights: Mapping[str, float], *, explain: bool = False
) -> Slate:
    """Predict every candidate for one user and sort them by their fused score.

    Args:
        bundle: taken once by the caller: a reload must not mix two versions.
        context: what to rank.
        weights: fusion weights that `fusion_weights` has passed.
        explain: whether to compute an `Explanation`.
    """
    names = ranker_outputs(bundle, weights, explain=explain)
    inputs = ranker_inputs(bundle, context)
    return ordered_slate(bundle, inputs, bundle.run_ranker(inputs, names), weights)


def ranker_inputs(bundle: Bundle, context: RankingContext) -> dict[str, Array]:
    """Return the ranker's inputs, named and shaped as `models.features` has them."""
    manifest, vocabulary = bundle.manifest, bundle.vocabulary
    exposures, length = context.exposures, manifest.sequence_length
    history: dict[str, Array] = {}
    if manifest.reads_history:
        history = history_arrays(exposures.older(length), context.imported, vocabulary)
    return (
        sequence_arrays(exposures.newest(length), vocabulary, context.now_ms, manifest.signals)
        | history
        | candidate_arrays(context.candidates, vocabulary, manifest.video_features)
        | context_arrays(
            context.profile,
            manifest.default_tab if context.tab is None else context.tab,
            vocabulary,
            manifest.profile_numbers,
            manifest.profile_categories,
        )
    )


def ranker_outputs(bundle: Bundle, weights: Mapping[str, float], *, explain: bool) -> tuple[str, ...]:
    """Return the names of the outputs that a slate needs; arguments as for `rank`."""
    optional = (EXPECTED_SECONDS, WATCH_STATES)
    names = (*SECONDS_OUTPUTS, *(EXPLANATION_OUTPUTS if explain else ()))
    given = (name for name in names if name not in optional or name in bundle.ranker_outputs)
    return (*given, OBJECTIVES, *((EXPECTED_WATCH_TIME,) if EXPECTED_WATCH_TIME in weights else ()))


def ordered_slate(
    bundle: Bundle, inputs: Mapping[str, Array], outputs: dict[str, Array], weights: Mapping[str, float]
) -> Slate:
    """Fuse the ranker's outputs `[1, N, ...]` into scores and sort by them; see `rank`."""
    seconds = tuple(name for name in SECONDS_OUTPUTS if name in outputs)
    fused = (*bundle.manifest.objectives, *((EXPECTED_WATCH_TIME,) if EXPECTED_WATCH_TIME in outputs else ()))
    names = (*seconds, *fused)
    rows = [*(outputs[name] for name in seconds), outputs[OBJECTIVES][0].T]  # the first of one user each
    rows += [outputs[name] for name in fused[len(bundle.manifest.objectives) :]]
    predictions_CN: F32 = np.concatenate(rows)
    explained = tuple(name for name in EXPLANATION_OUTPUTS if name in outputs)
    explanation = [outputs[name][0] for name in explained]
    nonfinite: list[str] = []
    if not all(np.isfinite(x).all() for x in (predictions_CN, *explanation)):
        # E.g. of a duration below what float32 can hold.
        columns = zip((*names, *explained), (*predictions_CN, *explanation), strict=True)
        nonfinite = [name for name, x in columns if not np.isfinite(x).all()]
        replaced = partial(np.nan_to_num, nan=0.0, posinf=MAX_WATCH_TIME_S, neginf=0.0)
        predictions_CN, *explanation = map(replaced, (predictions_CN, *explanation))
    score_N, parts = fuse(dict(zip(fused, predictions_CN[len(seconds) :], strict=True)), weights)
    return Slate(
        order=np.argsort(-score_N, kind="stable"),
        score=score_N,
        names=names,
        predictions=predictions_CN,
        explanation=Explanation(parts, *explanation) if explained else None,
        inputs=inputs,
        nonfinite=tuple(nonfinite),
    )
