"""Whatever orders rows of a window: a bundle, a run, a label, or nothing much."""

# Shape suffixes: N rows of the log, R judged rows, B requests, K candidates.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.errors import BadInput
from models.features import Array
from models.fusion import fuse
from models.runtime import Bundle
from models.vocabulary import Vocabulary
from training.compare.audit._world import AuditConfig, AuditWorld
from training.data import Interactions
from training.encoders import RankerInputs
from training.evaluation.counterfactual_probe import Moved, make_probes, moved
from training.evaluation.predict import Predictions, predict_onnx, predict_torch
from training.train import run_folder as run

Kind = Literal["reference", "encoder", "label"]

SCORE: Final = "score"
"""What a bundle's or run's fused score is called."""


@dataclass(frozen=True)
class Subject:
    """Something that orders the judged rows."""

    name: str
    says: str
    """What it is, for readers."""
    kind: Kind
    score: F32 | F64
    """`[R]` what lists are sorted by."""
    seconds: F32 | None = None
    """`[R]` predicted watch time, where it predicts one."""
    half: F32 | None = None
    """`[R]` predicted probability that more than half is watched, where it predicts that."""
    probe: Mapping[str, Mapping[str, Moved]] = field(default_factory=dict)
    """What a view that becomes a skip does to `watch_time_s` and `score`; empty where it was not asked."""


def references(world: AuditWorld, seed: int) -> list[Subject]:
    """What bias looks like: none, and all."""
    random = np.random.default_rng(seed).random(len(world.rows))
    return [
        Subject("random", "a random order", "reference", random),
        Subject("longest", "the longest video first", "reference", world.duration),
        Subject(
            "most shown", "the video first that was shown most before", "reference", world.popularity * 1.0
        ),
    ]


def of_bundle(
    bundle: Bundle,
    world: AuditWorld,
    labels: Sequence[str] | None,
    config: AuditConfig,
    *,
    allow_seen: bool,
    on_progress: Callable[[float], None],
) -> list[Subject]:
    """A bundle's score, its objectives, and the labels it serves.

    Args:
        bundle: which.
        world: the judged rows.
        labels: which of its labels; `None` all.
        config: see there.
        allow_seen: audit rows that the weights have seen, and say so.
        on_progress: told the share that is done.

    Raises:
        BadInput: it has seen the window, or does not serve a label.
    """
    manifest = bundle.manifest
    says = _seen(manifest.version, manifest.training.watermark_ms, world, allow_seen=allow_seen)
    log = world.dataset.interactions(bundle.vocabulary, manifest.profile_numbers)
    at = _Placed.of(world, bundle.vocabulary)
    out = predict_onnx(bundle, log, at.rows, on_progress)
    names = ["watch_time_s", *manifest.objectives]

    def answer(x: RankerInputs) -> dict[str, F32]:
        found = bundle.run_ranker({name: t.numpy() for name, t in x._asdict().items()}, names)
        return {name: np.asarray(value, np.float32) for name, value in found.items()}

    probe = _probed(answer, manifest.weights, log, at.rows, manifest.sequence_length, config)
    served = _picked(labels, manifest.labels)
    feedback: dict[str, Array] = {"feedback": log.feedback[at.rows], "group_ids": log.groups[at.rows]}
    made = bundle.run_labeler(feedback, list(served)) if served else {}
    return [
        *_ranked(manifest.version, says, out, manifest.weights, at, probe),
        *(_label(name, np.asarray(made[name], np.float32), at) for name in served),
    ]


def of_run(
    folder: Path,
    world: AuditWorld,
    labels: Sequence[str] | None,
    config: AuditConfig,
    *,
    allow_seen: bool,
) -> list[Subject]:
    """The same of a run's fit before its test days. Arguments as for `of_bundle`."""
    saved = run.read(folder, "evaluation")
    fitted, length = saved.fitted, saved.config.loop.sequence_length
    says = _seen(folder.name, saved.watermark_ms, world, allow_seen=allow_seen)
    log = world.dataset.interactions(fitted.vocabulary, saved.profile_numbers)
    at = _Placed.of(world, fitted.vocabulary)

    def answer(x: RankerInputs) -> dict[str, F32]:
        with torch.no_grad():
            return {n: t.numpy() for n, t in zip(fitted.ranker.outputs, fitted.ranker(*x), strict=True)}

    probe = _probed(answer, fitted.weights, log, at.rows, length, config)
    served = _picked(labels, fitted.label_makers.names)
    with torch.no_grad():
        made = fitted.label_makers(
            torch.from_numpy(log.feedback[at.rows]), torch.from_numpy(log.groups[at.rows])
        )
    by_name = dict(zip(fitted.label_makers.names, made, strict=True))
    out = predict_torch(fitted.ranker, log, at.rows, length)
    return [
        *_ranked(folder.name, says, out, fitted.weights, at, probe),
        *(_label(name, by_name[name].numpy(), at) for name in served),
    ]


@dataclass(frozen=True)
class _Placed:
    """The judged rows in the order of one vocabulary's log."""

    rows: I64
    """`[R]` rows of the log, ascending."""
    back: I64
    """`[R]` which of them each row of `AuditWorld.rows` is."""

    @classmethod
    def of(cls, world: AuditWorld, vocabulary: Vocabulary) -> _Placed:
        placed = world.placed(vocabulary)
        where = np.empty_like(placed)
        where[placed] = np.arange(len(placed))
        wanted = where[world.rows]
        rows = np.sort(wanted)
        return cls(rows, np.searchsorted(rows, wanted).astype(np.int64))


def _seen(name: str, watermark_ms: int, world: AuditWorld, *, allow_seen: bool) -> str:
    if watermark_ms < world.at.test_ms:
        return "has not seen the window"
    if not allow_seen:
        newest = datetime.fromtimestamp(watermark_ms / 1000, UTC)
        raise BadInput(
            f"{name} has seen the log up to {newest:%Y-%m-%d %H:%M:%S} UTC, rows of the window among it. "
            "Audit the run it was exported from (--run), or give --allow-seen to audit it all the same."
        )
    return "has SEEN the window: it was released after a fit on all days"


def _picked(labels: Sequence[str] | None, served: Sequence[str]) -> tuple[str, ...]:
    if labels is None:
        return tuple(served)
    for name in labels:
        if name not in served:
            raise BadInput(f"--labels names {name!r}; there are {', '.join(served)}.")
    return tuple(dict.fromkeys(labels))


def _ranked(
    name: str,
    says: str,
    out: Predictions,
    weights: Mapping[str, float],
    at: _Placed,
    probe: Mapping[str, Mapping[str, Moved]],
) -> list[Subject]:
    values = out.slate.objectives
    score, _ = fuse(values, weights)
    seconds = out.pointwise.watch_time_s[at.back]
    fused = ", ".join(f"{key} {value:g}" for key, value in weights.items() if value)
    first = Subject(
        f"{name} {SCORE}", f"{fused}; {says}", "encoder", score[at.back], seconds=seconds, probe=probe
    )
    return [
        first,
        *(
            Subject(f"{name} {key}", f"its objective {key} alone", "encoder", value[at.back])
            for key, value in values.items()
        ),
    ]


def _label(name: str, value_R: F32, at: _Placed) -> Subject:
    return Subject(name, "the label itself, as if it were known", "label", value_R[at.back])


def _probed(
    answer: Callable[[RankerInputs], Mapping[str, F32]],
    weights: Mapping[str, float],
    log: Interactions,
    rows: I64,
    length: int,
    config: AuditConfig,
) -> dict[str, dict[str, Moved]]:
    """What a view that becomes a skip does to predicted seconds and to the score; empty where no history of
    the window allows the question."""
    try:
        probes = make_probes(log, rows, length, most=config.probes, seed=config.seed)
    except BadInput:
        return {}

    def score(x: RankerInputs) -> F32:
        found = answer(x)
        values = {name: found[name].ravel() for name in weights}
        return fuse(values, weights)[0].reshape(found["watch_time_s"].shape)

    return {
        "watch_time_s": moved(lambda x: answer(x)["watch_time_s"], probes),
        SCORE: moved(score, probes),
    }
