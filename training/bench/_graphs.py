"""What one call of a bundle's graphs costs and where: `python -m training bench graphs`, as JSON."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from models.features import GROUP_COLUMNS, Array
from models.manifest import LABELER, RANKER
from models.runtime import Bundle, session_options
from models.vocabulary import UNKNOWN
from training.export.synthetic_inputs import SyntheticInputs

BLOCK: Final = 20
"""Calls of one bundle before it is the next one's turn."""
COLD: Final = 2
"""So many first calls of a block do not count: they find the caches full of another bundle's weights."""


def bench_graphs(
    folders: Sequence[Path],
    *,
    candidates: int = 200,
    history: int = 50,
    rows: int = 100,
    repeats: int = 500,
    threads: int = 1,
    profile: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Time the bare ONNX calls of one bundle or several, on made-up inputs of the first one's vocabulary.

    The bundles take turns, `BLOCK` calls each, so that whatever else the machine does hits all of them, and
    the ratio of their medians is a figure of the graphs alone.

    Args:
        folders: one version each; the others are told as ratios of the first.
        candidates: of the one user whose request the ranker answers.
        history: steps of that user.
        rows: exposures of the labeler's call.
        repeats: timed calls of each graph.
        threads: of ONNX Runtime within one call.
        profile: also tell where the time goes, from ONNX Runtime's own profiler, in runs of their own.
        seed: of the inputs.

    Returns:
        By graph and version: `median_us` and `p5_us` of a call, `nodes` that ran, `ratio` to the first
        version, and the largest difference of any output from the first's relative to 1 + |value|
        (`differs`); with `profile` also `operators`.
    """
    loaded = [Bundle.load(folder, threads=threads) for folder in folders]
    first = loaded[0]
    manifest = first.manifest
    made_up = SyntheticInputs(
        first.vocabulary,
        len(manifest.profile_numbers),
        manifest.profile_categories,
        np.random.default_rng(seed),
    )
    request = made_up.request(1, candidates, history)
    crowds = np.full((rows, len(GROUP_COLUMNS)), UNKNOWN, np.int64)
    exposures = {"feedback": made_up.feedback(rows), "group_ids": crowds}
    graphs: dict[str, tuple[Mapping[str, Array], Callable[[Bundle], ort.InferenceSession]]] = {
        RANKER: (request, lambda bundle: bundle.ranker),
        LABELER: (exposures, lambda bundle: bundle.labeler),
    }
    found: dict[str, Any] = {}
    for graph, (inputs, of) in graphs.items():
        sessions = [of(bundle) for bundle in loaded]
        names = [bundle.manifest.version for bundle in loaded]
        timed = in_turns(sessions, inputs, repeats)
        found[graph] = {
            name: {
                "median_us": round(statistics.median(times), 1),
                "p5_us": round(float(np.percentile(times, 5)), 1),
                "ratio": round(statistics.median(times) / statistics.median(timed[0]), 3),
                "differs": _difference(session, sessions[0], inputs),
                **_profiled(folder / graph, inputs, threads, operators=profile),
            }
            for name, folder, session, times in zip(names, folders, sessions, timed, strict=True)
        }
    return {
        "graphs": found,
        "onnxruntime": ort.__version__,
        "candidates": candidates,
        "history": history,
        "rows": rows,
        "threads": threads,
        "repeats": repeats,
    }


def _taken(session: ort.InferenceSession, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {i.name: inputs[i.name] for i in session.get_inputs()}


def in_turns(
    sessions: Sequence[ort.InferenceSession], inputs: Mapping[str, Array], repeats: int
) -> list[list[float]]:
    """Microseconds of each call, by session."""
    given = [_taken(session, inputs) for session in sessions]
    took: list[list[float]] = [[] for _ in sessions]
    while min(len(times) for times in took) < repeats:
        for session, x, times in zip(sessions, given, took, strict=True):
            for i in range(BLOCK):
                began = time.perf_counter()
                session.run(None, x)
                if i >= COLD:
                    times.append((time.perf_counter() - began) * 1e6)
    return took


def _difference(one: ort.InferenceSession, other: ort.InferenceSession, inputs: Mapping[str, Array]) -> float:
    """Largest of the outputs that both have."""
    answers = [
        dict(zip([o.name for o in s.get_outputs()], s.run(None, _taken(s, inputs)), strict=True))
        for s in (one, other)
    ]
    mine, theirs = answers
    off = [np.abs(mine[n] - theirs[n]) / (1.0 + np.abs(theirs[n])) for n in mine.keys() & theirs.keys()]
    return max((float(o.max(initial=0.0)) for o in off), default=0.0)


def _profiled(path: Path, inputs: Mapping[str, Array], threads: int, *, operators: bool) -> dict[str, Any]:
    """How many nodes ran, and with `operators` how many of each kind and their microseconds.

    The profiler adds one to three microseconds to every node: its sum is above the time of a call, and only
    the shares of the kinds mean something. Each node counts by the lower quartile of its times.
    """
    calls = 200 if operators else 3
    with tempfile.TemporaryDirectory(prefix="reelrank-profile-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        given = _taken(session, inputs)
        for _ in range(calls):
            session.run(None, given)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"])
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), took in times.items():
        kinds[kind].append(float(np.percentile(took, 25)))
    if not operators:
        return {"nodes": len(times)}
    ordered = sorted(kinds.items(), key=lambda kind: -sum(kind[1]))
    return {
        "nodes": len(times),
        "operators": {kind: {"nodes": len(took), "us": round(sum(took), 1)} for kind, took in ordered},
    }
