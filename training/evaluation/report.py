"""Evaluate a bundle or a run from its folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from training.data import Dataset
from training.evaluation.evaluate import evaluate, open_bundle, parse_window
from training.evaluation.predict import predict_onnx, predict_torch, score_onnx, score_torch
from training.evaluation.reactions import reactions
from training.train import run_folder


def evaluate_bundle(
    folder: Path,
    dataset: Dataset,
    start: str | None,
    end: str | None,
    tab: str | None,
    *,
    allow_seen: bool = False,
    on_step: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Return every metric of a bundle on the days from `start` to `end`, as `evaluate` does.

    Beside the metrics: `evaluated`, the version, and `seen`, whether its weights were fitted on rows of them.

    Raises:
        BadInput: the window is empty or, without `allow_seen`, begins before the bundle's watermark.
    """
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    watermark_ms = manifest.training.watermark_ms
    window = parse_window(dataset, watermark_ms, start, end, allow_seen=allow_seen)
    log = dataset.interactions(
        bundle.vocabulary, manifest.profile_numbers, manifest.signals, manifest.video_features
    )
    metrics = evaluate(
        log,
        lambda rows: predict_onnx(bundle, log, rows, on_step),
        tabs=bundle.vocabulary.fields["tab"],
        weights=manifest.weights,
        window=window,
        tab=tab,
    )
    rows = log.rows_between(*window)
    reacted = reactions(partial(score_onnx, bundle), log, rows, manifest.sequence_length)
    return {"evaluated": manifest.version, "seen": window[0] <= watermark_ms, **metrics, **reacted}


def evaluate_run(
    folder: Path,
    dataset: Dataset,
    start: str | None,
    end: str | None,
    tab: str | None,
    *,
    allow_seen: bool = False,
) -> dict[str, Any]:
    """Return every metric of a run's evaluation fit, as `evaluate_bundle` does of a bundle."""
    saved = run_folder.read(folder, "evaluation")
    fitted, length = saved.fitted, saved.config.loop.sequence_length
    window = parse_window(dataset, saved.watermark_ms, start, end, allow_seen=allow_seen)
    log = dataset.interactions(fitted.vocabulary, saved.profile_numbers, saved.signals, saved.video_features)
    metrics = evaluate(
        log,
        lambda rows: predict_torch(fitted.ranker, log, rows, length),
        tabs=fitted.vocabulary.fields["tab"],
        weights=fitted.weights,
        window=window,
        tab=tab,
    )
    reacted = reactions(
        partial(score_torch, fitted.ranker, fitted.weights), log, log.rows_between(*window), length
    )
    return {"evaluated": str(folder), "seen": window[0] <= saved.watermark_ms, **metrics, **reacted}
