"""Anything that orders the rows of an audit: references, bundles, runs, and labels."""

# Shape suffixes: R evaluated rows.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.errors import BadInput
from models.features import Array
from models.fusion import fuse
from models.runtime import Bundle
from models.signals import Signals
from models.video_features import VideoFeatures
from models.vocabulary import Vocabulary
from training.data import Interactions
from training.encoders import RankerInputs
from training.evaluation.counterfactual_probe import make_probes, moved
from training.evaluation.predict import Predictions, predict_onnx, predict_torch
from training.experiments.audit_data import AuditConfig, AuditData
from training.train import run_folder

SCORE: Final = "score"
"""The name of a bundle's or run's fused score."""
Probe = dict[str, dict[str, Any]]
"""By output and kind of candidate: what a view that becomes a skip does, as JSON."""


@dataclass(frozen=True)
class RankedSystem:
    """Something that orders the evaluated rows."""

    name: str
    description: str
    """For readers of the report."""
    kind: Literal["reference", "encoder", "label"]
    score: F32 | F64
    """`[R]` what lists are sorted by."""
    predictions: Mapping[str, F32] = field(default_factory=dict)
    """`[R]` `seconds`, the predicted watch time, and `half`, the predicted probability that more than half is
    watched, where it predicts them."""
    probe: Probe = field(default_factory=dict)
    """Empty where it is not probed."""


def reference_systems(data: AuditData, seed: int) -> list[RankedSystem]:
    """Return orders without bias, and with nothing else."""
    random = np.random.default_rng(seed).random(len(data.log_rows))
    return [
        RankedSystem("random", "a random order", "reference", random),
        RankedSystem("longest", "the longest video first", "reference", data.rows.duration),
        RankedSystem(
            "most shown",
            "the video first that was shown most before",
            "reference",
            data.popularity.astype(np.float64),
        ),
    ]


@dataclass(frozen=True)
class _Served:
    """What a bundle and a run have in common."""

    name: str
    watermark_ms: int
    vocabulary: Vocabulary
    profile_numbers: tuple[str, ...]
    signals: Signals
    video_features: VideoFeatures
    weights: Mapping[str, float]
    length: int
    labels: tuple[str, ...]
    rank: Callable[[RankerInputs], Mapping[str, F32]]
    predict: Callable[[Interactions, I64], Predictions]
    label: Callable[[Interactions, I64, Sequence[str]], Mapping[str, F32]]


def bundle_systems(
    bundle: Bundle, data: AuditData, labels: Sequence[str] | None, config: AuditConfig, *, allow_seen: bool
) -> list[RankedSystem]:
    """Return a bundle's score, its objectives, and the labels it serves.

    Args:
        bundle: the version.
        data: the evaluated rows.
        labels: which of its labels; `None` all.
        config: of the audit.
        allow_seen: audit rows that the weights have seen, and say so in the description.

    Raises:
        BadInput: it has seen the window, or does not serve a label.
    """
    manifest = bundle.manifest
    outputs = ["watch_time_s", *manifest.objectives]

    def rank(x: RankerInputs) -> dict[str, F32]:
        output = bundle.run_ranker({name: t.numpy() for name, t in x._asdict().items()}, outputs)
        return {name: np.asarray(value, np.float32) for name, value in output.items()}

    def label(log: Interactions, rows: I64, names: Sequence[str]) -> Mapping[str, F32]:
        inputs: dict[str, Array] = {"feedback": log.feedback[rows], "group_ids": log.groups[rows]}
        return {
            name: np.asarray(v, np.float32) for name, v in bundle.run_labeler(inputs, list(names)).items()
        }

    served = _Served(
        manifest.version,
        manifest.training.watermark_ms,
        bundle.vocabulary,
        manifest.profile_numbers,
        manifest.signals,
        manifest.video_features,
        manifest.weights,
        manifest.sequence_length,
        manifest.labels,
        rank,
        lambda log, rows: predict_onnx(bundle, log, rows),
        label,
    )
    return _systems(served, data, labels, config, allow_seen=allow_seen)


def run_systems(
    folder: Path, data: AuditData, labels: Sequence[str] | None, config: AuditConfig, *, allow_seen: bool
) -> list[RankedSystem]:
    """Return the same of a run's evaluation fit. Arguments as for `bundle_systems`."""
    saved = run_folder.read(folder, "evaluation")
    fitted, length = saved.fitted, saved.config.loop.sequence_length

    def rank(x: RankerInputs) -> dict[str, F32]:
        with torch.no_grad():
            out = fitted.ranker(*x)
        objectives = zip(fitted.ranker.objectives, out.objectives.unbind(-1), strict=True)
        return {n: t.numpy() for n, t in (*out._asdict().items(), *objectives)}

    def label(log: Interactions, rows: I64, names: Sequence[str]) -> Mapping[str, F32]:
        with torch.no_grad():
            columns = fitted.label_makers(
                torch.from_numpy(log.feedback[rows]), torch.from_numpy(log.groups[rows])
            )
        return {n: column.numpy() for n, column in zip(fitted.label_makers.outputs, columns, strict=True)}

    served = _Served(
        folder.name,
        saved.watermark_ms,
        fitted.vocabulary,
        saved.profile_numbers,
        saved.signals,
        saved.video_features,
        fitted.weights,
        length,
        tuple(fitted.label_makers.names),
        rank,
        lambda log, rows: predict_torch(fitted.ranker, log, rows, length),
        label,
    )
    return _systems(served, data, labels, config, allow_seen=allow_seen)


def _systems(
    served: _Served,
    data: AuditData,
    labels: Sequence[str] | None,
    config: AuditConfig,
    *,
    allow_seen: bool,
) -> list[RankedSystem]:
    seen = _describe_watermark(served, data, allow_seen=allow_seen)
    names = tuple(dict.fromkeys(served.labels if labels is None else labels))
    for name in names:
        if name not in served.labels:
            raise BadInput(f"--labels names {name!r}; there are {', '.join(served.labels)}.")
    log = data.dataset.interactions(
        served.vocabulary, served.profile_numbers, served.signals, served.video_features
    )
    order = data.locate(served.vocabulary)
    predictions = served.predict(log, order.rows)
    values = predictions.slate.objectives
    score, _ = fuse(values, served.weights)
    fusion = ", ".join(f"{name} {weight:g}" for name, weight in served.weights.items() if weight)
    label_columns = served.label(log, order.rows, names) if names else {}
    return [
        RankedSystem(
            f"{served.name} {SCORE}",
            f"{fusion}; {seen}",
            "encoder",
            score[order.back],
            {"seconds": predictions.pointwise.watch_time_s[order.back]},
            _probe_served(served, log, order.rows, config),
        ),
        *(
            RankedSystem(f"{served.name} {name}", f"its objective {name} alone", "encoder", value[order.back])
            for name, value in values.items()
        ),
        *(
            RankedSystem(
                name, "the label itself, as if it were known", "label", label_columns[name][order.back]
            )
            for name in names
        ),
    ]


def _describe_watermark(served: _Served, data: AuditData, *, allow_seen: bool) -> str:
    if served.watermark_ms < data.boundaries.test_ms:
        return "has not seen the window"
    if not allow_seen:
        newest = datetime.fromtimestamp(served.watermark_ms / 1000, UTC)
        raise BadInput(
            f"{served.name} has seen the log up to {newest:%Y-%m-%d %H:%M:%S} UTC, rows of the window among "
            "it. Audit the run it was exported from (--run), or give --allow-seen to audit it all the same."
        )
    return "has SEEN the window: it was released after a fit on all days"


def _probe_served(served: _Served, log: Interactions, rows: I64, config: AuditConfig) -> Probe:
    """Probe predicted seconds and the score."""

    def score(x: RankerInputs) -> F32:
        outputs = served.rank(x)
        values = {name: outputs[name].ravel() for name in served.weights}
        return fuse(values, served.weights)[0].reshape(outputs["watch_time_s"].shape)

    outputs = {"watch_time_s": lambda x: served.rank(x)["watch_time_s"], SCORE: score}
    return probe_outputs(outputs, log, rows, served.length, config)


def probe_outputs(
    outputs: Mapping[str, Callable[[RankerInputs], F32]],
    log: Interactions,
    rows: I64,
    length: int,
    config: AuditConfig,
) -> Probe:
    """Return what a view that becomes a skip does to outputs; empty where no sequence allows it."""
    try:
        probes = make_probes(log, rows, length, most=config.probes, seed=config.seed)
    except BadInput:
        return {}
    return {
        name: {kind: change._asdict() for kind, change in moved(output, probes).items()}
        for name, output in outputs.items()
    }
