"""Whether fewer bits pay: the ranker with float16 weights or int8 products, its speed beside its metrics."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import onnx
import onnxruntime as ort
import typer
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.manifest import RANKER
from models.runtime import Bundle, session_options
from training.bench._graphs import BUNDLES, synthetic_inputs, time_in_turns
from training.data import load
from training.evaluation.evaluate import evaluate, parse_window, version_folder
from training.evaluation.predict import Predictions, predict_onnx

METRICS: Final = ("mae_s", "xauc", "gauc_long_view", "rows")
SMALL: Final = 64
"""Constants of fewer values stay as they are: edges and scales, which take no memory."""
CANDIDATES: Final = 200
HISTORY: Final = 50
"""Of the request that is timed."""


def bench_precision(
    data: Annotated[Path, typer.Option(help="a folder that `prepare` wrote")],
    start: Annotated[str, typer.Option("--from", help="first day that is evaluated, YYYY-MM-DD")],
    end: Annotated[str, typer.Option("--to", help="last day, inclusive")],
    bundle: Annotated[Path, typer.Option(help="a version's folder, or the folder of versions")] = BUNDLES,
    repeats: Annotated[int, typer.Option(min=1, help="timed runs; the median is shown")] = 300,
    seed: Annotated[int, typer.Option(help="decides everything that is drawn")] = 0,
) -> dict[str, Any]:
    """Time the ranker in float32, float16 and int8, beside its metrics.

    int8 is ONNX Runtime's dynamic quantisation of products with weights: those by output channel, what they
    are multiplied with by call. Tables stay as they are. By precision: `median_us`, `ratio` to float32,
    `bytes` of the graph, `differs` (the largest difference of watch time in seconds on the window), and the
    metrics.
    """
    folder, dataset = version_folder(bundle), load(data)
    window = parse_window(dataset, 0, start, end, allow_seen=True)
    loaded = Bundle.load(folder)
    manifest = loaded.manifest
    request = synthetic_inputs(loaded, seed).request(1, CANDIDATES, HISTORY)
    log = dataset.interactions(
        loaded.vocabulary, manifest.profile_numbers, manifest.signals, manifest.video_features
    )
    rows = log.rows_between(*window)
    with tempfile.TemporaryDirectory(prefix="reelrank-precision-") as scratch:
        paths = {"float32": folder / RANKER}
        write: dict[str, Callable[[Path, Path], None]] = {"float16": _halve, "int8": _quantise}
        for name, convert in write.items():
            paths[name] = Path(scratch) / f"{name}.onnx"
            convert(folder / RANKER, paths[name])
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        rankers = {
            name: ort.InferenceSession(str(path), session_options(1), providers=["CPUExecutionProvider"])
            for name, path in paths.items()
        }
    timed = time_in_turns(list(rankers.values()), request, repeats)
    predictions: dict[str, Predictions] = {
        name: predict_onnx(dataclasses.replace(loaded, ranker=ranker), log, rows)
        for name, ranker in rankers.items()
    }
    reference_s = predictions["float32"].pointwise.watch_time_s
    results: dict[str, Any] = {}
    for (name, predicted), times in zip(predictions.items(), timed, strict=True):
        metrics = evaluate(
            log,
            lambda _, predicted=predicted: predicted,  # type: ignore[misc]  # mypy infers no default's type
            tabs=loaded.vocabulary.fields["tab"],
            weights=manifest.weights,
            window=window,
        )
        results[name] = {
            "median_us": round(float(np.median(times)), 1),
            "ratio": round(float(np.median(times) / np.median(timed[0])), 3),
            "bytes": sizes[name],
            "differs": float(np.abs(predicted.pointwise.watch_time_s - reference_s).max(initial=0.0)),
            **{metric: metrics[metric] for metric in METRICS},
        }
    return {
        "bundle": manifest.version,
        "onnxruntime": ort.__version__,
        "candidates": CANDIDATES,
        "history": HISTORY,
        "repeats": repeats,
        "precision": results,
    }


def _halve(source: Path, target: Path) -> None:
    """Weights as float16, cast back where they are read: ONNX Runtime has no float16 products on a CPU."""
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
        source, target, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
    )
