"""A bundle as a Triton model repository: the same graphs, and what Triton needs to know of them.

TO/labeler/config.pbtxt   TO/labeler/1/model.onnx
TO/ranker/config.pbtxt    TO/ranker/1/model.onnx
TO/manifest.json, TO/vocabulary.json: for clients; Triton reads folders only
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from models.manifest import LABELER, MANIFEST, RANKER, VOCABULARY, Graph, Manifest, TensorSpec
from training.staging import atomic_folder

TYPES: Final = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}
AXES: Final = {"B": "users", "N": "rows or candidates", "L": "sequence steps", "H": "history entries"}


def lay_out(bundle: Path, to: Path) -> Path:
    """Write the repository, whole or not at all.

    Args:
        bundle: one version's folder.
        to: a new folder.

    Returns:
        `to`.

    Raises:
        BadInput: `to` exists, or cannot be made.
        BundleNotFound, CorruptBundle, ContractMismatch: see `Manifest.read`.
    """
    manifest = Manifest.read(bundle)
    with atomic_folder(to) as staging:
        for name, file, graph in (
            ("labeler", LABELER, manifest.labeler),
            ("ranker", RANKER, manifest.ranker),
        ):
            (staging / name / "1").mkdir(parents=True)
            shutil.copyfile(bundle / file, staging / name / "1" / "model.onnx")
            (staging / name / "config.pbtxt").write_text(config(name, graph, manifest.version))
        for file in (MANIFEST, VOCABULARY):
            shutil.copyfile(bundle / file, staging / file)
    return to


def config(name: str, graph: Graph, version: str) -> str:
    """`config.pbtxt` of one graph, in protobuf's text format.

    Triton's own batching stays off (`max_batch_size: 0`): it joins requests along one first axis that all
    tensors share and that it takes out of their shapes. Here a request brings several axes of its own, and
    an answer of shape [N] would become [N, 1].
    """
    axes = dict.fromkeys(axis for spec in graph.inputs for axis in spec.shape if isinstance(axis, str))
    legend = ", ".join(f"{axis} {AXES[axis]}" for axis in axes)
    return "\n".join(
        [
            f"# Of bundle {version}. Free axes (-1): {legend}.",
            f'name: "{name}"',
            'backend: "onnxruntime"',
            "# Every request brings all of its axes: nothing to join requests along.",
            "max_batch_size: 0",
            *(_tensor("input", spec) for spec in graph.inputs),
            *(_tensor("output", spec) for spec in graph.outputs),
            f'parameters {{ key: "reelrank_version" value {{ string_value: "{version}" }} }}',
            "",
        ]
    )


def _tensor(kind: str, spec: TensorSpec) -> str:
    # An axis without columns (a data set without profiles) is a free one for Triton, which wants no zeros.
    dims = ", ".join(str(axis or -1) if isinstance(axis, int) else "-1" for axis in spec.shape)
    fields = f'name: "{spec.name}" data_type: {TYPES[spec.dtype]} dims: [ {dims} ]'
    return f"{kind} {{ {fields} }}  # {' x '.join(map(str, spec.shape))}, {spec.unit}"
