"""A whole bundle whose graphs have a handful of nodes: real files, real checksums, milliseconds to make."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from onnx import helper

from models.features import FEEDBACK_COLUMNS, Array
from models.manifest import LABELER, MANIFEST, RANKER, Graph, Manifest, TensorSpec
from models.vocabulary import Vocabulary
from tests.bundle_parts import golden_rows, onnx_model, sha256, write_manifest

VERSION: Final = "20260101-0123abcd"
FIELDS: Final = Vocabulary({"video_id": ["v1", "v2", "v3"], "author_id": ["a1"], "tag": ["t1"], "tab": ["1"]})

_WEIGHTS: Final = np.array([0.05, -0.02, 1.0, 1.0, 1.0, 1.0, -1.0, 0.5], np.float32)
_LABELER_INPUTS: Final = (
    TensorSpec(name="feedback", dtype="float32", shape=("N", len(FEEDBACK_COLUMNS)), unit="raw"),
)
_LABELER_OUTPUTS: Final = (TensorSpec(name="labelcraft", dtype="float32", shape=("N",), unit="probability"),)
_RANKER_INPUTS: Final = (
    TensorSpec(name="candidate_ids", dtype="int64", shape=("B", "N", 3), unit="row"),
    TensorSpec(name="candidate_duration_s", dtype="float32", shape=("B", "N"), unit="s"),
)
_RANKER_OUTPUTS: Final = (
    TensorSpec(name="watch_time_s", dtype="float32", shape=("B", "N"), unit="s"),
    TensorSpec(name="interest", dtype="float32", shape=("B", "N"), unit="value"),
)


def label(feedback: Array, bias: float) -> Array:
    """What the labeler answers: `[N, 8]` -> `[N]`."""
    return np.asarray(1 / (1 + np.exp(-(feedback @ _WEIGHTS + np.float32(bias)))), np.float32)


def rank(duration_s: Array) -> dict[str, Array]:
    """What the ranker answers: half of the duration, and its sigmoid."""
    half = np.asarray(duration_s * np.float32(0.5), np.float32)
    return {"watch_time_s": half, "interest": np.asarray(1 / (1 + np.exp(-half)), np.float32)}


def write(folder: Path, version: str = VERSION, *, bias: float = 0.0) -> Manifest:
    """Make `folder` a complete bundle. Another `bias` makes other weights."""
    folder.mkdir(parents=True)
    feedback = np.array([[0, 10, 0, 0, 0, 0, 0, 0], [30, 10, 1, 0, 0, 0, 0, 1]], np.float32)
    ids = np.array([[[2, 2, 2], [1, 1, 1]]], np.int64)
    durations = np.array([[8.0, 20.0]], np.float32)
    (folder / LABELER).write_bytes(_labeler(bias))
    (folder / RANKER).write_bytes(_ranker())
    labels = golden_rows({"feedback": feedback}, {"labelcraft": label(feedback, bias)})
    ranks = golden_rows({"candidate_ids": ids, "candidate_duration_s": durations}, rank(durations))
    return write_manifest(
        folder,
        version,
        FIELDS,
        labeler=Graph(inputs=_LABELER_INPUTS, outputs=_LABELER_OUTPUTS, golden=labels),
        ranker=Graph(inputs=_RANKER_INPUTS, outputs=_RANKER_OUTPUTS, golden=ranks),
        labels=("labelcraft",),
        objectives=("interest",),
        weights={"interest": 1.0},
        sequence_length=50,
    )


def rewrite(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest alone."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest with the checksums of the files as they now are: past them, on to the later checks."""
    sealed = manifest.model_copy(update={"files": {name: sha256(folder / name) for name in manifest.files}})
    rewrite(folder, sealed)
    return sealed


def _labeler(bias: float) -> bytes:
    nodes = [
        helper.make_node("MatMul", ["feedback", "weights"], ["column"]),  # a vector would refuse N = 0
        helper.make_node("Squeeze", ["column", "last"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["labelcraft"]),
    ]
    constants: dict[str, Array] = {
        "weights": _WEIGHTS[:, None],
        "last": np.array([1], np.int64),
        "bias": np.array(bias, np.float32),
    }
    return onnx_model(nodes, constants, _LABELER_INPUTS, _LABELER_OUTPUTS)


def _ranker() -> bytes:
    nodes = [
        helper.make_node("Mul", ["candidate_duration_s", "half"], ["watch_time_s"]),
        helper.make_node("Sigmoid", ["watch_time_s"], ["interest"]),
    ]
    return onnx_model(nodes, {"half": np.array(0.5, np.float32)}, _RANKER_INPUTS, _RANKER_OUTPUTS)
