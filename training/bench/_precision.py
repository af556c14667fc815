"""Whether fewer bits pay: the ranker with float16 weights or int8 products, its speed beside its figures."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.manifest import RANKER
from models.runtime import Bundle, session_options
from training.bench._graphs import in_turns
from training.data import Dataset
from training.evaluation.evaluate import evaluate
from training.evaluation.predict import predict_onnx, run_onnx
from training.export.synthetic_inputs import SyntheticInputs

FIGURES: Final = ("mae_s", "xauc", "gauc_long_view", "rows")
SMALL: Final = 64
"""Constants of fewer values stay as they are: edges and scales, of no weight in memory."""


def bench_precision(
    folder: Path,
    dataset: Dataset,
    window: tuple[int, int],
    *,
    candidates: int = 200,
    history: int = 50,
    repeats: int = 300,
    seed: int = 0,
) -> dict[str, Any]:
    """One bundle's ranker as it is, with float16 weights, and with matrix products in int8.

    int8 is ONNX Runtime's dynamic quantisation of products with weights: those by output channel, what meets
    them by call. Tables stay as they are.

    Args:
        folder: one version.
        dataset: the log that figures are read off.
        window: half-open, milliseconds, of the rows that are judged.
        candidates: of the request that is timed.
        history: steps of its user.
        repeats: timed calls of each.
        seed: of the request.

    Returns:
        By precision: `median_us`, `ratio` to float32, `bytes` of the graph, `differs` (the largest difference
        of watch time in seconds on the window), and the figures.
    """
    bundle = Bundle.load(folder)
    manifest = bundle.manifest
    made_up = SyntheticInputs(
        bundle.vocabulary,
        len(manifest.profile_numbers),
        manifest.profile_categories,
        np.random.default_rng(seed),
    )
    request = made_up.request(1, candidates, history)
    log = dataset.interactions(bundle.vocabulary, manifest.profile_numbers)
    rows = log.rows_between(*window)
    with tempfile.TemporaryDirectory(prefix="reelrank-precision-") as made:
        paths = {"float32": folder / RANKER}
        write: dict[str, Callable[[Path, Path], None]] = {"float16": _halve, "int8": _quantise}
        for name, how in write.items():
            paths[name] = Path(made) / f"{name}.onnx"
            how(folder / RANKER, paths[name])
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        rankers = {
            name: ort.InferenceSession(str(path), session_options(1), providers=["CPUExecutionProvider"])
            for name, path in paths.items()
        }
    timed = in_turns(list(rankers.values()), request, repeats)
    whole = run_onnx(bundle, log, rows).watch_time_s
    found: dict[str, Any] = {}
    for (name, ranker), times in zip(rankers.items(), timed, strict=True):
        variant = dataclasses.replace(bundle, ranker=ranker)
        answers = predict_onnx(variant, log, rows)
        figures = evaluate(
            log,
            lambda _, answers=answers: answers,  # type: ignore[misc]  # mypy infers no default's type
            tabs=bundle.vocabulary.fields["tab"],
            weights=manifest.weights,
            window=window,
        )
        found[name] = {
            "median_us": round(float(np.median(times)), 1),
            "ratio": round(float(np.median(times) / np.median(timed[0])), 3),
            "bytes": sizes[name],
            "differs": float(np.abs(answers.pointwise.watch_time_s - whole).max(initial=0.0)),
            **{figure: figures[figure] for figure in FIGURES},
        }
    return {
        "bundle": manifest.version,
        "onnxruntime": ort.__version__,
        "candidates": candidates,
        "history": history,
        "repeats": repeats,
        "precision": found,
    }


def _halve(source: Path, target: Path) -> None:
    """Weights as float16 that are cast back where they are read: ONNX Runtime has no float16 products on a
    CPU."""
    model = onnx.load(source)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= SMALL:
            name = tensor.name
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)


def _quantise(source: Path, target: Path) -> None:
    quantize_dynamic(
        source,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
    )
