"""Torch modules -> one immutable bundle. The only writer of bundles."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from models.features import GROUP_COLUMNS, HISTORY_COLUMNS, Array, columns_digest
from models.histogram import Histogram
from models.manifest import (
    EXPECTED_SECONDS,
    EXPECTED_WATCH_TIME,
    INTERPOLATED,
    LABELER,
    MANIFEST,
    OBJECTIVES,
    PERCENTILES,
    RANKER,
    VOCABULARY,
    WATCH_STATES,
    Evaluation,
    GoldenRows,
    Graph,
    LearnedLabels,
    Manifest,
    TensorSpec,
    Training,
)
from models.manifest import Tensor as TensorRows
from models.runtime import Bundle, session_options
from models.signals import NO_SIGNALS, Signals
from models.store import BundleStore
from models.video_features import NO_VIDEO_FEATURES, VideoFeatures
from models.vocabulary import Vocabulary
from training.export.synthetic_inputs import SyntheticInputs
from training.labels import LabelMakers
from training.rankers import Ranker, RankerOutputs

OPSET: Final = 20
"""Pinned, so that a newer torch does not change the shipped graphs by itself. 20 is the first with Gelu."""

CANDIDATES: Final = (0, 1, 2, 500)
STEPS: Final = (0, 1, 50, 100)
"""Shapes at which a fresh export is compared with torch before it is published."""
PARITY: Final = 1e-4
"""Largest difference allowed there, relative to 1 + |value|."""

Unit = Literal["s", "ratio", "probability", "value", "row", "raw"]

LABELER_INPUTS: Final[dict[str, tuple[tuple[str | int, ...], Unit]]] = {
    "feedback": (("N", -1), "raw"),
    "group_ids": (("N", len(GROUP_COLUMNS)), "row"),
}
RANKER_INPUTS: Final[dict[str, tuple[tuple[str | int, ...], Unit]]] = {
    "sequence_ids": (("B", "L", 4), "row"),
    "sequence_feedback": (("B", "L", -1), "raw"),
    "sequence_age_s": (("B", "L"), "s"),
    "candidate_ids": (("B", "N", 3), "row"),
    "candidate_duration_s": (("B", "N"), "s"),
    "context_ids": (("B", 1), "row"),
    "profile": (("B", -1), "raw"),
    "profile_ids": (("B", -1), "row"),
    "history_ids": (("B", "H"), "row"),
    "history_feedback": (("B", "H", len(HISTORY_COLUMNS)), "raw"),
    "candidate_numbers": (("B", "N", -1), "raw"),
    "candidate_categories": (("B", "N", -1), "row"),
}
"""Axes and units; -1 stands for however many features and signals the data set has. A graph takes those of
histories if its encoder reads them, and the last two if there are own features of videos."""

_BY_NAME: Final = ("candidate_numbers", "candidate_categories")
"""Inputs that follow optional ones among the arguments of a ranker."""

RANKER_UNITS: Final[dict[str, Unit]] = {
    "watch_time_s": "s",
    "watch_ratio": "ratio",
    OBJECTIVES: "value",
    "anchor_weights": "probability",
    "anchor_ratio": "ratio",
    "quantiles_s": "s",
    EXPECTED_SECONDS: "s",
    EXPECTED_WATCH_TIME: "value",
    WATCH_STATES: "probability",
}
"""Of what a ranker answers."""


def export(
    label_makers: LabelMakers,
    ranker: Ranker,
    vocabulary: Vocabulary,
    destination: Path,
    *,
    training: Training,
    weights: Mapping[str, float],
    sequence_length: int,
    profile_numbers: Sequence[str] = (),
    profile_categories: Sequence[str] = (),
    default_tab: str | None = None,
    signals: Signals = NO_SIGNALS,
    video_features: VideoFeatures = NO_VIDEO_FEATURES,
    learned_labels: LearnedLabels | None = None,
    evaluation: Evaluation | None = None,
    reference: Callable[[Bundle], Mapping[str, Histogram]] | None = None,
    seed: int = 0,
) -> Path:
    """Write one version of the bundle into `destination/<version>`.

    The version is the day and a digest of both graphs, the vocabulary, where they come from and `reference`.
    The golden rows are made up from `seed`, with the edge cases in: a 0 s watch, a loop, unknown ids and
    durations, an empty history. Both graphs are compared with torch at every shape of `CANDIDATES` x `STEPS`,
    and the folder is loaded as the service would before it gets its name. `reference` is called with that
    bundle; what it finds is the manifest's member of this name.

    Raises:
        BadInput: this version is there already (versions are immutable), or the folder cannot be written.
        RuntimeError: onnxruntime's answers differ from torch's by more than `PARITY`.
    """
    with tempfile.TemporaryDirectory(prefix="reelrank-export-") as scratch:
        staging = Path(scratch) / "bundle"
        staging.mkdir()
        random = np.random.default_rng(seed)
        numbers, categories = len(profile_numbers), profile_categories
        rows = SyntheticInputs(vocabulary, numbers, categories, random, signals, video_features)
        label_makers.eval()
        ranker.eval()
        _write(label_makers, rows.exposures(label_makers, 5), staging / LABELER, list(label_makers.outputs))
        _write(ranker, _request(rows, ranker, 2, 3, 4), staging / RANKER, list(RankerOutputs._fields))
        (staging / VOCABULARY).write_bytes(vocabulary.to_bytes())
        files = checksums(staging, (LABELER, RANKER, VOCABULARY))
        now = datetime.now(UTC)
        identity = "".join(files.values()) + training.model_dump_json()
        feedback, request = rows.exposures(label_makers, 16), _request(rows, ranker, 2, 8, 12)
        predictions = _predictions(ranker, request)
        manifest = Manifest(
            version=version_name(now, identity),
            created_at=now,
            files=files,
            columns_digest=columns_digest(
                grouped=label_makers.grouped,
                reads_history=ranker.encoder.reads_history,
                signals=signals,
                video_features=video_features,
            ),
            vocabulary_digest=vocabulary.digest(),
            labeler=Graph(
                inputs=tuple(_specs(LABELER_INPUTS, feedback)),
                outputs=(
                    *(
                        TensorSpec(name=n, dtype="float32", shape=("N",), unit="value")
                        for n in label_makers.names
                    ),
                    TensorSpec(
                        name=PERCENTILES,
                        dtype="float32",
                        shape=("N", len(label_makers.names)),
                        unit="probability",
                    ),
                ),
                golden=golden_rows(feedback, _labels(label_makers, feedback)),
            ),
            ranker=Graph(
                inputs=tuple(_specs(RANKER_INPUTS, request)),
                outputs=ranker_outputs(predictions),
                golden=golden_rows(request, predictions),
            ),
            optimised="basic",
            labels=label_makers.names,
            labels_by_user=label_makers.by_user,
            objectives=ranker.objectives,
            weights=dict(weights),
            sequence_length=sequence_length,
            profile_numbers=tuple(profile_numbers),
            profile_categories=tuple(profile_categories),
            signals=signals,
            video_features=video_features,
            default_tab=default_tab,
            training=training,
            learned_labels=learned_labels,
            evaluation=evaluation,
        )
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        bundle = Bundle.load(staging)
        for n in CANDIDATES:
            exposures = rows.exposures(label_makers, n)
            compare(exposures, bundle.run_labeler(exposures), _labels(label_makers, exposures))
            for steps in STEPS:
                asked = _request(rows, ranker, 1, n, steps)
                compare(asked, bundle.run_ranker(asked), _predictions(ranker, asked))
        if reference is not None:
            found = dict(reference(bundle))
            manifest = with_reference(manifest, found, now)
            (staging / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        store = BundleStore(destination)
        return store.path(store.publish(staging))


def with_reference(manifest: Manifest, reference: Mapping[str, Histogram], now: datetime) -> Manifest:
    """The same bundle with these histograms. That is another version: a version never changes."""
    shapes = "".join(f"{name}{histogram.model_dump_json()}" for name, histogram in sorted(reference.items()))
    version = version_name(now, manifest.version + shapes)
    return manifest.model_copy(update={"version": version, "reference": dict(reference)})


def version_name(now: datetime, identity: str) -> str:
    """Return the name of a version: its day and a digest of what it is made of."""
    return f"{now:%Y%m%d}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _request(
    rows: SyntheticInputs, ranker: Ranker, users: int, candidates: int, steps: int
) -> dict[str, Array]:
    """Return inputs of the ranker's graph: those that its encoder reads."""
    inputs = rows.request(users, candidates, steps)
    if not ranker.encoder.reads_history:
        del inputs["history_ids"], inputs["history_feedback"]
    if ranker.encoder.own is None:
        del inputs["candidate_numbers"], inputs["candidate_categories"]
    return inputs


def _arguments(inputs: Mapping[str, Array]) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """Return inputs in order; by name those that follow others which a graph may not take."""
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    named: dict[str, torch.Tensor] = {name: tensors.pop(name) for name in _BY_NAME if name in tensors}
    return tuple(tensors.values()), named


def _torch(module: nn.Module, inputs: Mapping[str, Array]) -> list[Array]:
    ordered, named = _arguments(inputs)
    with torch.no_grad():
        return [t.numpy() for t in module(*ordered, **named)]


def _write(module: nn.Module, example: Mapping[str, Array], path: Path, outputs: list[str]) -> None:
    """Export with the axes B, N, L and H free wherever the example's inputs have them."""
    axes = {name: shape for name, (shape, _) in (LABELER_INPUTS | RANKER_INPUTS).items()}
    dynamic = {
        name: {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(axes[name]) if isinstance(axis, str)}
        for name in example
    }
    ordered, named = _arguments(example)
    # Without torchvision, which nothing here needs, the exporter says so four times.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch 2.13's exporter calls a deprecated part of torch itself.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        program = torch.onnx.export(
            module,
            ordered,
            kwargs=named,
            input_names=list(example),
            output_names=outputs,
            opset_version=OPSET,
            dynamic_shapes=dynamic if named else tuple(dynamic.values()),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for value in model.graph.input:
        for dim, axis in zip(value.type.tensor_type.shape.dim, axes[value.name], strict=True):
            if isinstance(axis, str):
                dim.dim_param = axis
    free = ("B", "N") if "sequence_ids" in example else ("N",)
    for value in model.graph.output:
        for dim, axis in zip(value.type.tensor_type.shape.dim, free, strict=False):
            dim.dim_param = axis
    # Tensors in between still use the exporter's names for the axes; onnxruntime infers its own.
    del model.graph.value_info[:]
    # What the exporter noted about our source files would put paths of a machine into the bundle.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    path.write_bytes(model.SerializeToString())
    _optimise(path)


def _optimise(path: Path) -> None:
    """Do once what ONNX Runtime would do at each load, as far as it is the same on every machine."""
    options = session_options(threads=1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="reelrank-optimise-") as folder:
        optimised = Path(folder) / path.name
        options.optimized_model_filepath = str(optimised)
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(optimised)
    # It lists every domain it knows; ours are standard operators alone, and the checker below says so.
    standard = [opset for opset in model.opset_import if opset.domain == ""]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the member `files` of a manifest."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def golden_rows(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> GoldenRows:
    """Return inputs and answers as a manifest has them."""
    return GoldenRows(
        inputs={n: TensorRows.from_array(a) for n, a in inputs.items()},
        outputs={n: TensorRows.from_array(a) for n, a in outputs.items()},
    )


def _labels(label_makers: LabelMakers, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return dict(zip(label_makers.outputs, _torch(label_makers, inputs), strict=True))


def _predictions(ranker: Ranker, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return dict(zip(RankerOutputs._fields, _torch(ranker, inputs), strict=True))


def compare(inputs: Mapping[str, Array], got: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    """Check that a graph gives what is wanted, within `PARITY` or as `INTERPOLATED` says.

    Raises:
        RuntimeError: it does not.
    """
    for name, want in wanted.items():
        off = np.abs(got[name] - want) / (1.0 + np.abs(want))
        worst, atol = float(off.max(initial=0.0)), INTERPOLATED.get(name, PARITY)
        if got[name].shape != want.shape or not worst <= atol:
            shapes = {n: a.shape for n, a in inputs.items()}
            raise RuntimeError(f"output {name!r} is off by {worst:.1e} (allowed {atol:.0e}) at {shapes}")


def _specs(
    declared: Mapping[str, tuple[tuple[str | int, ...], Unit]], example: Mapping[str, Array]
) -> Iterator[TensorSpec]:
    for name, array in example.items():
        shape, unit = declared[name]
        sizes = tuple(array.shape[i] if axis == -1 else axis for i, axis in enumerate(shape))
        yield TensorSpec(name=name, dtype=str(array.dtype), shape=sizes, unit=unit)


def ranker_outputs(predictions: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    """Return the specifications of what a ranker gives."""
    return tuple(
        TensorSpec(name=n, dtype="float32", shape=("B", "N", *a.shape[2:]), unit=RANKER_UNITS[n])
        for n, a in predictions.items()
    )
