"""A sample of recent requests, kept as numbers, that a new bundle is run through before it answers.

Memory and disk hold what the graphs were given, without any id: of a slate the feedback and age of each
exposure and the duration of each candidate, of a body of events their feedback. No users, videos or authors,
no
profiles, no times: a request cannot be attributed, and forgetting a user leaves nothing of them here.
Vocabulary indices are drawn anew for each bundle, because another bundle numbers other videos. Histories are
made of the exposures that are kept.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

import msgspec
import numpy as np

from models.arrays import F32, I64
from models.errors import SelfTestFailed
from models.features import (
    CANDIDATE_ID_COLUMNS,
    FEEDBACK_COLUMNS,
    GROUP_COLUMNS,
    HISTORY_LENGTH,
    SEQUENCE_ID_COLUMNS,
    Array,
    columns_digest,
    context_arrays,
    history_feedback,
)
from models.manifest import EXPECTED_SECONDS, OBJECTIVES
from models.runtime import Bundle
from models.signals import with_signals
from models.video_features import video_feature_arrays
from models.vocabulary import UNKNOWN, Vocabulary

log = logging.getLogger("reelrank.traffic_sample")

T = TypeVar("T")

CAPACITY: Final = 64
"""Slates, and bodies of events, that are kept."""

MIN_REPLACEMENT_PROBABILITY: Final = 0.01
"""A request replaces another one with at least this probability, so that the sample is of the last few
thousand requests and not of all time."""

MAX_ROWS: Final = 2_000
"""Events that are kept of one body."""

_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class SampledSlate:
    """L exposures, N candidates."""

    feedback: F32
    """`[L, 8]`."""
    age_s: F32
    """`[L]`, in seconds."""
    duration_s: F32
    """`[N]`, in seconds; NaN is unknown."""


class File(msgspec.Struct, forbid_unknown_fields=True):
    """What is on the disk, behind a checksum: arrays as their bytes, little-endian float32."""

    slates: list[tuple[bytes, bytes, bytes]]
    """Feedback, ages, durations."""
    bodies: list[bytes]
    columns: str = msgspec.field(default_factory=columns_digest)
    """`models.features.columns_digest` of the service that wrote it."""
    format: Literal["reelrank recorded requests 1"] = "reelrank recorded requests 1"


class _Reservoir(Generic[T]):
    """At most `CAPACITY` items; newer ones replace older ones at random."""

    def __init__(self, items: list[T]) -> None:
        self.items = items
        self._seen = len(items)

    def accepts(self) -> bool:
        """Return whether the next item is kept: nearly always this is one draw of a random number."""
        self._seen += 1
        return random.random() < max(CAPACITY / self._seen, MIN_REPLACEMENT_PROBABILITY)

    def add(self, item: T) -> None:
        if len(self.items) < CAPACITY:
            self.items.append(item)
        else:
            self.items[random.randrange(CAPACITY)] = item


class TrafficSample:
    """The sample of one process and its file, which the processes of a service share: each writes its own,
    and any of them does for the next start.

    Args:
        path: made at the first `save`, in a folder that exists; readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slates: _Reservoir[SampledSlate] = _Reservoir([])
        self._bodies: _Reservoir[F32] = _Reservoir([])
        self._unsaved = False

    def __len__(self) -> int:
        return len(self._slates.items) + len(self._bodies.items)

    def add_slate(self, inputs: Mapping[str, Array]) -> None:
        """Perhaps keep a slate that was answered.

        Args:
            inputs: of the ranker.
        """
        if self._slates.accepts():
            names = ("sequence_feedback", "sequence_age_s", "candidate_duration_s")
            feedback, age_s, duration_s = (inputs[name][0].astype(np.float32) for name in names)
            self._slates.add(SampledSlate(feedback[:, : len(FEEDBACK_COLUMNS)], age_s, duration_s))
            self._unsaved = True

    def add_events(self, feedback: F32) -> None:
        """Perhaps keep events that were labelled, `[N, 8 + S]`; own signals are not kept: bundles differ in
        them."""
        if self._bodies.accepts():
            self._bodies.add(feedback[:MAX_ROWS, : len(FEEDBACK_COLUMNS)].copy())
            self._unsaved = True

    def load(self) -> None:
        """Take over the file. One that is damaged, or of another layout, is ignored with one line in the log;
        the next `save` replaces it."""
        try:
            slates, bodies = read(self._path)
            self._slates, self._bodies = _Reservoir(slates), _Reservoir(bodies)
        except FileNotFoundError:
            return
        except (OSError, ValueError, msgspec.MsgspecError) as e:
            log.warning("recorded requests in %s are ignored: %s", self._path, e)
            self._unsaved = True

    def save(self) -> None:
        """Replace the file in one step, if there is anything new. A failure is logged: only the next start's
        warm-up depends on it."""
        if not self._unsaved:
            return
        self._unsaved = False
        slates = [
            (s.feedback.tobytes(), s.age_s.tobytes(), s.duration_s.tobytes())
            for s in list(self._slates.items)
        ]
        content = with_checksum(File(slates, [body.tobytes() for body in list(self._bodies.items)]))
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}.draft")
        try:
            draft.unlink(missing_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(content)
            draft.replace(self._path)
        except OSError as e:
            log.warning("recorded requests cannot be saved: %s", e)

    def replay(self, bundle: Bundle) -> None:
        """Run a bundle through the whole sample.

        Raises:
            SelfTestFailed: a graph fails, or its answer is not finite, where the bundle that answered the
                request gave a finite one.
        """
        version = bundle.manifest.version
        rng = np.random.default_rng(0)  # what fails once fails again
        outputs = ("watch_time_s", "watch_ratio", OBJECTIVES, *({EXPECTED_SECONDS} & bundle.ranker_outputs))
        for slate in list(self._slates.items):
            _check(version, "slate", partial(bundle.run_ranker, _slate_inputs(bundle, slate, rng), outputs))
        for body in list(self._bodies.items):
            _check(version, "body of events", partial(bundle.run_labeler, _body_inputs(bundle, body, rng)))


def read(path: Path) -> tuple[list[SampledSlate], list[F32]]:
    """Read a file.

    Raises:
        OSError: it cannot be read.
        ValueError, msgspec.MsgspecError: it is damaged, or of another layout.
    """
    content = path.read_bytes()
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if digest != _digest(content):
        raise ValueError("its checksum is wrong")
    file = msgspec.msgpack.decode(content, type=File)
    if file.columns != columns_digest():
        raise ValueError("it was written with other columns")
    slates = [SampledSlate(_matrix(f), _vector(a), _vector(d)) for f, a, d in file.slates]
    return slates[:CAPACITY], [_matrix(body) for body in file.bodies[:CAPACITY]]


def with_checksum(file: File) -> bytes:
    """Return the bytes of a file, its checksum first."""
    content = msgspec.msgpack.encode(file)
    return _digest(content) + content


def _slate_inputs(bundle: Bundle, slate: SampledSlate, rng: np.random.Generator) -> dict[str, Array]:
    manifest, vocabulary = bundle.manifest, bundle.vocabulary
    recent = slice(max(0, len(slate.feedback) - manifest.sequence_length), None)
    feedback = slate.feedback[recent]
    candidates = len(slate.duration_s)
    numbers, categories = video_feature_arrays([None] * candidates, vocabulary, manifest.video_features)
    return {
        "history_ids": _ids(vocabulary, ("video_id",), len(feedback), rng)[None, -HISTORY_LENGTH:, 0],
        "history_feedback": history_feedback(feedback)[None, -HISTORY_LENGTH:],
        "sequence_ids": _ids(vocabulary, SEQUENCE_ID_COLUMNS, len(feedback), rng)[None],
        "sequence_feedback": with_signals(feedback, (), manifest.signals)[None],
        "sequence_age_s": slate.age_s[recent][None],
        "candidate_ids": _ids(vocabulary, CANDIDATE_ID_COLUMNS, candidates, rng)[None],
        "candidate_duration_s": slate.duration_s[None],
        "candidate_numbers": numbers[None],
        "candidate_categories": categories[None],
        **context_arrays(
            {}, manifest.default_tab, vocabulary, manifest.profile_numbers, manifest.profile_categories
        ),
    }


def _body_inputs(bundle: Bundle, body: F32, rng: np.random.Generator) -> dict[str, Array]:
    users = bundle.manifest.profile_categories[:1]  # by which users are grouped, if by anything
    fields = ("tag", *(f"profile.{name}" for name in users))
    groups = np.full((len(body), len(GROUP_COLUMNS)), UNKNOWN, np.int64)
    groups[:, : len(fields)] = _ids(bundle.vocabulary, fields, len(body), rng)
    return {"feedback": with_signals(body, (), bundle.manifest.signals), "group_ids": groups}


def _ids(vocabulary: Vocabulary, fields: tuple[str, ...], rows: int, rng: np.random.Generator) -> I64:
    """A random index of each field, `[rows, fields]`."""
    return np.stack([rng.integers(UNKNOWN, vocabulary.size(name), rows) for name in fields], axis=-1)


def _check(version: str, kind: str, run: Callable[[], Mapping[str, Array]]) -> None:
    try:
        out = run()
    except Exception as e:  # onnxruntime raises a class of its own per status code, without a common base
        raise SelfTestFailed(
            f"{version} fails on a recorded {kind} that was answered before: {str(e).splitlines()[0]}"
        ) from e
    for name, values in out.items():
        if not np.isfinite(values).all():
            raise SelfTestFailed(
                f"{version}: `{name}` is not finite on a recorded {kind} that was answered before; "
                "fit it again, or look for inputs its training never had."
            )


def _vector(content: bytes) -> F32:
    return np.frombuffer(content, "<f4")


def _matrix(content: bytes) -> F32:
    return _vector(content).reshape(-1, len(FEEDBACK_COLUMNS))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
