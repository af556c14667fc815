"""The time of one bare call of a bundle's graphs, and where it goes."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import onnxruntime as ort
import typer

from models.features import GROUP_COLUMNS, Array
from models.manifest import LABELER, RANKER
from models.runtime import Bundle, session_options
from models.vocabulary import UNKNOWN
from training.evaluation.evaluate import version_folder
from training.export.synthetic_inputs import SyntheticInputs

BUNDLES: Final = Path(__file__).parents[2] / "models" / "bundles"
TURN: Final = 20
"""Calls of one bundle before the next one's turn."""
COLD: Final = 2
"""First calls of a turn that do not count: they find the caches full of another bundle's weights."""


def bench_graphs(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="a version's folder, or the folder of versions; repeat it to compare"),
    ] = None,
    candidates: Annotated[int, typer.Option(min=0, help="of one user")] = 200,
    history: Annotated[int, typer.Option(min=0, help="steps of that user")] = 50,
    rows: Annotated[int, typer.Option(min=0, help="exposures the labeler is called with")] = 100,
    repeats: Annotated[int, typer.Option(min=1, help="timed runs; the median is shown")] = 500,
    threads: Annotated[int, typer.Option(min=1, help="of ONNX Runtime within a call")] = 1,
    profile: Annotated[bool, typer.Option(help="also the time of each kind of operator")] = False,
    seed: Annotated[int, typer.Option(help="decides everything that is drawn")] = 0,
) -> dict[str, Any]:
    """Time one bare call of each graph of a bundle; several bundles take turns.

    Whatever else the machine does then hits all of them, and the ratio of their medians depends on the graphs
    alone. By graph and version: `median_us` and `p5_us` of a call, `nodes` that ran, `ratio` to the first
    version, and the largest difference of any output from the first's relative to 1 + |value| (`differs`);
    with `profile` also `operators`.
    """
    folders = [version_folder(path) for path in bundle or [BUNDLES]]
    bundles = [Bundle.load(folder, threads=threads) for folder in folders]
    inputs = synthetic_inputs(bundles[0], seed)
    exposures = {
        "feedback": inputs.feedback(rows),
        "group_ids": np.full((rows, len(GROUP_COLUMNS)), UNKNOWN, np.int64),
    }
    graphs: dict[str, tuple[Mapping[str, Array], Callable[[Bundle], ort.InferenceSession]]] = {
        RANKER: (inputs.request(1, candidates, history), lambda b: b.ranker),
        LABELER: (exposures, lambda b: b.labeler),
    }
    results: dict[str, Any] = {}
    for graph, (arrays, session_of) in graphs.items():
        sessions = [session_of(b) for b in bundles]
        timed = time_in_turns(sessions, arrays, repeats)
        results[graph] = {
            b.manifest.version: {
                "median_us": round(statistics.median(times), 1),
                "p5_us": round(float(np.percentile(times, 5)), 1),
                "ratio": round(statistics.median(times) / statistics.median(timed[0]), 3),
                "differs": _difference(session, sessions[0], arrays),
                **_profile(folder / graph, arrays, threads, operators=profile),
            }
            for b, folder, session, times in zip(bundles, folders, sessions, timed, strict=True)
        }
    return {
        "graphs": results,
        "onnxruntime": ort.__version__,
        "candidates": candidates,
        "history": history,
        "rows": rows,
        "threads": threads,
        "repeats": repeats,
    }


def synthetic_inputs(bundle: Bundle, seed: int) -> SyntheticInputs:
    """Return random inputs that fit a bundle."""
    manifest = bundle.manifest
    numbers, categories = len(manifest.profile_numbers), manifest.profile_categories
    random = np.random.default_rng(seed)
    own = manifest.signals, manifest.video_features
    return SyntheticInputs(bundle.vocabulary, numbers, categories, random, *own)


def time_in_turns(
    sessions: Sequence[ort.InferenceSession], inputs: Mapping[str, Array], repeats: int
) -> list[list[float]]:
    """Return the microseconds of each call, by session."""
    arrays = [_inputs_of(session, inputs) for session in sessions]
    took: list[list[float]] = [[] for _ in sessions]
    while min(len(times) for times in took) < repeats:
        for session, x, times in zip(sessions, arrays, took, strict=True):
            for i in range(TURN):
                began = time.perf_counter()
                session.run(None, x)
                if i >= COLD:
                    times.append((time.perf_counter() - began) * 1e6)
    return took


def _inputs_of(session: ort.InferenceSession, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {i.name: inputs[i.name] for i in session.get_inputs()}


def _difference(
    session: ort.InferenceSession, reference: ort.InferenceSession, inputs: Mapping[str, Array]
) -> float:
    """The largest relative difference of the outputs that both have."""
    outputs, expected = (
        dict(zip([o.name for o in s.get_outputs()], s.run(None, _inputs_of(s, inputs)), strict=True))
        for s in (session, reference)
    )
    common = outputs.keys() & expected.keys()
    off = [np.abs(outputs[n] - expected[n]) / (1.0 + np.abs(expected[n])) for n in common]
    return max((float(o.max(initial=0.0)) for o in off), default=0.0)


def _profile(path: Path, inputs: Mapping[str, Array], threads: int, *, operators: bool) -> dict[str, Any]:
    """How many nodes ran, and with `operators` how many of each kind and their microseconds.

    The profiler adds one to three microseconds to every node: its sum is above the time of a call, and only
    the shares of the kinds mean something. Each node counts by the lower quartile of its times.
    """
    with tempfile.TemporaryDirectory(prefix="reelrank-profile-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        arrays = _inputs_of(session, inputs)
        for _ in range(200 if operators else 3):
            session.run(None, arrays)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"])
    if not operators:
        return {"nodes": len(times)}
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), took in times.items():
        kinds[kind].append(float(np.percentile(took, 25)))
    ordered = sorted(kinds.items(), key=lambda kind: -sum(kind[1]))
    return {
        "nodes": len(times),
        "operators": {kind: {"nodes": len(took), "us": round(sum(took), 1)} for kind, took in ordered},
    }
