"""The benchmarks run the real steps and say what they measured."""

from __future__ import annotations

import json

from models.store import BundleStore
from training.__main__ import BUNDLES
from training.bench import bench_graphs, bench_meta_step, bench_soft_topk


def test_the_meta_step_is_timed_by_stage() -> None:
    found = bench_meta_step(batch=8, history=4, users=3, candidates=12, repeats=2)
    assert json.loads(json.dumps(found)) == found
    assert set(found["stages"]) == {
        "inner_forward",
        "look_ahead",
        "hold_out",
        "label_gradient",
        "labels",
        "inner_step",
    }
    assert found["seconds"] > 0
    assert found["peak_mib"] > 0
    assert (found["batch"], found["history"], found["users"], found["candidates"]) == (8, 4, 3, 12)


def test_soft_top_k_is_timed_both_ways() -> None:
    found = bench_soft_topk(users=3, candidates=12, k=2, repeats=2)
    assert json.loads(json.dumps(found)) == found
    assert set(found["stages"]) == {"forward", "backward"}
    assert (found["users"], found["candidates"], found["k"]) == (3, 12, 2)


def test_graphs_are_timed_in_turns_compared_and_taken_apart() -> None:
    store = BundleStore(BUNDLES)
    folder = store.path(store.current())
    found = bench_graphs([folder, folder], candidates=3, history=2, rows=4, repeats=3, profile=True)
    assert json.loads(json.dumps(found)) == found
    for graph in ("ranker.onnx", "labeler.onnx"):
        (figures,) = found["graphs"][graph].values()
        assert figures["differs"] == 0.0
        assert figures["median_us"] >= figures["p5_us"] > 0
        operators = figures["operators"].values()
        assert figures["nodes"] == sum(operator["nodes"] for operator in operators) > 50
