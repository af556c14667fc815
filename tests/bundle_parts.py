"""Parts of the bundles that tests make: graphs of a few nodes, golden rows, a manifest with checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.features import columns_digest
from models.manifest import (
    LABELER,
    MANIFEST,
    RANKER,
    VOCABULARY,
    GoldenRows,
    Graph,
    Manifest,
    Tensor,
    TensorSpec,
    Training,
)
from models.vocabulary import Vocabulary

TRAINING: Final = Training(
    recipe="tiny",
    seed=0,
    dataset="none",
    source="tests",
    licence="Apache-2.0",
    rows=0,
    users=0,
    watermark_ms=0,
    git_commit="0" * 40,
    machine="any",
)
_TYPES: Final = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def onnx_model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray[Any, Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> bytes:
    """Return a checked graph."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(t.name, _TYPES[t.dtype], list(t.shape)) for t in inputs],
        [helper.make_tensor_value_info(t.name, _TYPES[t.dtype], list(t.shape)) for t in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def golden_rows(
    inputs: Mapping[str, np.ndarray[Any, Any]], outputs: Mapping[str, np.ndarray[Any, Any]]
) -> GoldenRows:
    return GoldenRows(
        inputs={name: Tensor.from_array(array) for name, array in inputs.items()},
        outputs={name: Tensor.from_array(array) for name, array in outputs.items()},
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(
    folder: Path, version: str, vocabulary: Vocabulary, *, labeler: Graph, ranker: Graph, **fields: object
) -> Manifest:
    """Write the vocabulary beside the graphs, and a manifest with the checksums of all three."""
    (folder / VOCABULARY).write_bytes(vocabulary.to_bytes())
    grouped = any(spec.name == "group_ids" for spec in labeler.inputs)
    reads_history = any(spec.name == "history_ids" for spec in ranker.inputs)
    manifest = Manifest.model_validate(
        {
            "version": version,
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "files": {name: sha256(folder / name) for name in (LABELER, RANKER, VOCABULARY)},
            "columns_digest": columns_digest(grouped=grouped, reads_history=reads_history),
            "vocabulary_digest": vocabulary.digest(),
            "labeler": labeler,
            "ranker": ranker,
            "training": TRAINING,
            **fields,
        }
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    return manifest
