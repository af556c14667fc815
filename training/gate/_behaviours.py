"""What a bundle's ranker does with one more exposure, and with longer videos, counted on drawn requests."""

# Shape suffixes: B requests of one candidate, L steps.

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from models.arrays import F32, I64, Bools
from models.features import (
    CANDIDATE_ID_COLUMNS,
    FEEDBACK_COLUMNS,
    HISTORY_COLUMNS,
    SEQUENCE_ID_COLUMNS,
    Array,
)
from models.fusion import fuse
from models.manifest import EXPECTED_SECONDS
from models.runtime import Bundle
from models.video_features import video_feature_arrays
from models.vocabulary import FIRST, UNKNOWN

REQUESTS: Final = 2_000
GLANCE_S: Final = 0.5
"""Seconds that a hate and a skip come after."""
AGO_S: Final = 60.0
"""Seconds between the exposure and the request."""
ROUNDING: Final = 1e-5
"""Relative difference of two answers that does not count."""

_BATCH: Final = 125
_LONGEST: Final = 30
"""Steps of a drawn sequence at most."""
_WATCHED, _DURATION, _HATE = (FEEDBACK_COLUMNS.index(n) for n in ("watch_time_s", "duration_s", "hate"))


def count_behaviours(bundle: Bundle, *, seed: int = 0) -> dict[str, float]:
    """Ask the ranker the same requests with and without one more exposure of the candidate's author.

    Sequences and candidates are drawn from the vocabulary, since a bundle has no rows of a log.

    Args:
        bundle: whose score is meant, with its own weights.
        seed: decides the requests.

    Returns:
        `gains_after_hate`, `gains_after_skip`, `gains_after_whole_view`: the share of candidates that score
        higher than without the exposure, of which half a second and a hate, half a second, and all was
        watched; `gains_after_view_and_hate`: after both, the hate the later. `loses_by_more_watch`: the share
        that scores lower with half of it watched than with half a second, or with all than with half.
        `loses_by_replay`: lower with twice than with all of it.
        `longer_gets_more_seconds`: the share that is expected to be watched longer when it is twice as long.
        The last alone where the bundle knows no authors.
    """
    random = np.random.default_rng(seed)
    longest = max(1, min(_LONGEST, bundle.manifest.sequence_length - 1))
    counts: Counter[str] = Counter()
    for _ in range(REQUESTS // _BATCH):
        request = _draw_request(bundle, int(random.integers(1, longest + 1)), random)
        longer = {**request, "candidate_duration_s": 2 * request["candidate_duration_s"]}
        found = {"longer_gets_more_seconds": _is_above(_seconds(bundle, longer), _seconds(bundle, request))}
        if bundle.vocabulary.size("author_id") > FIRST:
            found |= _reactions(bundle, request, random)
        counts.update({name: int(is_so.sum()) for name, is_so in found.items()})
    return {name: counts[name] / REQUESTS for name in found}


def _reactions(bundle: Bundle, request: Mapping[str, Array], random: np.random.Generator) -> dict[str, Bools]:
    duration_B = _draw_durations(random, _BATCH)
    glance_B = np.minimum(GLANCE_S, duration_B / 2)

    def feedback(watched_B: F32, *, hate: bool = False) -> F32:
        feedback = np.zeros((_BATCH, _columns(bundle)), np.float32)
        feedback[:, _WATCHED], feedback[:, _DURATION], feedback[:, _HATE] = watched_B, duration_B, hate
        return feedback

    def score_after(*steps: F32) -> F32:
        longer = request
        for number, step in enumerate(steps, 1):
            longer = _with_step(longer, step, AGO_S * (1 + len(steps) - number))
        return _score(bundle, longer)

    before = _score(bundle, request)
    hated, viewed = feedback(glance_B, hate=True), feedback(duration_B)
    hate, view_and_hate, skip = (
        score_after(hated),
        score_after(viewed, hated),
        score_after(feedback(glance_B)),
    )
    half, whole, twice = (score_after(feedback(share * duration_B)) for share in (0.5, 1.0, 2.0))
    return {
        "gains_after_hate": _is_above(hate, before),
        "gains_after_skip": _is_above(skip, before),
        "gains_after_whole_view": _is_above(whole, before),
        "gains_after_view_and_hate": _is_above(view_and_hate, before),
        "loses_by_more_watch": _is_above(skip, half) | _is_above(half, whole),
        "loses_by_replay": _is_above(whole, twice),
    }


def _draw_request(bundle: Bundle, steps: int, random: np.random.Generator) -> dict[str, Array]:
    """Draw `_BATCH` users with a candidate each; profiles and own features of videos are unknown."""
    manifest, vocabulary = bundle.manifest, bundle.vocabulary
    shape = (_BATCH, steps)
    tab = vocabulary.index("tab", manifest.default_tab)
    ids = _draw_ids(bundle, SEQUENCE_ID_COLUMNS, shape, random)
    ids[..., SEQUENCE_ID_COLUMNS.index("tab")] = tab
    feedback = np.zeros((*shape, _columns(bundle)), np.float32)
    feedback[..., _DURATION] = _draw_durations(random, shape)
    feedback[..., _WATCHED] = feedback[..., _DURATION] * random.choice([0.03, 0.2, 0.6, 1.0, 1.3], shape)
    age_s = np.sort(np.exp(random.uniform(np.log(2 * AGO_S), np.log(6e5), shape)), axis=1)[:, ::-1]
    numbers, categories = video_feature_arrays([None] * _BATCH, vocabulary, manifest.video_features)
    return {
        "sequence_ids": ids,
        "sequence_feedback": feedback,
        "sequence_age_s": age_s.astype(np.float32),
        "candidate_ids": _draw_ids(bundle, CANDIDATE_ID_COLUMNS, (_BATCH, 1), random),
        "candidate_duration_s": _draw_durations(random, (_BATCH, 1)),
        "context_ids": np.full((_BATCH, 1), tab),
        "profile": np.full((_BATCH, len(manifest.profile_numbers)), np.nan, np.float32),
        "profile_ids": np.full((_BATCH, len(manifest.profile_categories)), UNKNOWN),
        "history_ids": np.zeros((_BATCH, 0), np.int64),
        "history_feedback": np.zeros((_BATCH, 0, len(HISTORY_COLUMNS)), np.float32),
        "candidate_numbers": numbers[:, None],
        "candidate_categories": categories[:, None],
    }


def _with_step(request: Mapping[str, Array], feedback: F32, ago_s: float) -> dict[str, Array]:
    """Append an exposure of a new video by the candidate's author, with the candidate's tag."""
    ids = np.concatenate([request["candidate_ids"][:, 0], request["context_ids"]], axis=1)
    ids[:, 0] = UNKNOWN
    step: dict[str, Array] = {
        "sequence_ids": ids,
        "sequence_feedback": feedback,
        "sequence_age_s": np.full(_BATCH, ago_s, np.float32),
    }
    joined = dict(request)
    for name, column in step.items():
        joined[name] = np.concatenate([request[name], column[:, None]], axis=1)
    return joined


def _columns(bundle: Bundle) -> int:
    """Return the columns of feedback that a bundle reads; own signals are those of a user who gives none."""
    return len(FEEDBACK_COLUMNS) + len(bundle.manifest.signals.names)


def _draw_ids(
    bundle: Bundle, fields: Sequence[str], shape: tuple[int, ...], random: np.random.Generator
) -> I64:
    columns = []
    for field in fields:
        size = bundle.vocabulary.size(field)
        columns.append(
            random.integers(FIRST, size, shape) if size > FIRST else np.full(shape, UNKNOWN, np.int64)
        )
    return np.stack(columns, axis=-1)


def _draw_durations(random: np.random.Generator, shape: int | tuple[int, ...]) -> F32:
    return random.lognormal(3.2, 0.7, shape).astype(np.float32)


def _score(bundle: Bundle, request: Mapping[str, Array]) -> F32:
    objectives = bundle.run_ranker(request, bundle.manifest.objectives)
    return fuse(
        {name: x[:, 0].astype(np.float32) for name, x in objectives.items()}, bundle.manifest.weights
    )[0]


def _seconds(bundle: Bundle, request: Mapping[str, Array]) -> F32:
    """Mean watch time; of graphs of former exports, which have none, the prediction."""
    name = EXPECTED_SECONDS if EXPECTED_SECONDS in bundle.ranker_outputs else "watch_time_s"
    return bundle.run_ranker(request, [name])[name][:, 0].astype(np.float32)


def _is_above(one_B: F32, other_B: F32) -> Bools:
    above: Bools = one_B > other_B * (1 + ROUNDING)
    return above
