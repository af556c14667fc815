"""The rewritten end of a ranker gives what the end that torch exports gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from models.arrays import F32
from models.manifest import OBJECTIVES
from training.export.ranker_tail import rewrite

D, S, E = 8, 4, 3
NAMES = ["watch_time", "interest", "like", "skip"]
T = len(NAMES)

_EXPORTED = """exported (float[R, D] state, int64[B, N, 3] candidate_ids)
    => (float[B, N] watch_time, float[B, N] interest, float[B, N] like, float[B, N] skip) {
    size = Shape <start = 0, end = 2> (candidate_ids)
    own_size = Concat <axis = 0> (size, c_te)
    own_linear = Gemm <transB = 1> (state, experts_own_weight, experts_own_bias)
    own_relu = Relu (own_linear)
    own = Reshape <allowzero = 1> (own_relu, own_size)
    shared_size = Concat <axis = 0> (size, c_se)
    shared_linear = Gemm <transB = 1> (state, experts_shared_weight, experts_shared_bias)
    shared_relu = Relu (shared_linear)
    shared = Reshape <allowzero = 1> (shared_relu, shared_size)
    gate_size = Concat <axis = 0> (size, c_tg)
    gate_linear = Gemm <transB = 1> (state, experts_gate_weight, c_gate_bias)
    gate = Reshape <allowzero = 1> (gate_linear, gate_size)
    share = Softmax <axis = 3> (gate)
    of_shared, of_own = Split <axis = 3> (share, c_s1)

    own_first = Gather <axis = 2> (own, c_zero)
    of_own_first = Gather <axis = 2> (of_own, c_zero)
    own_part = Mul (of_own_first, own_first)
    of_shared_first = Gather <axis = 2> (of_shared, c_zero)
    of_shared_column = Unsqueeze (of_shared_first, c_three)
    shared_parts = Mul (of_shared_column, shared)
    shared_sum = ReduceSum <keepdims = 0> (shared_parts, c_two)
    mixed = Add (shared_sum, own_part)
    watch_time = ReduceMean <keepdims = 0> (mixed, c_two)

    own_parts = Mul (own, c_readout)
    own_sum = ReduceSum <keepdims = 1> (own_parts, c_three)
    own_read = Mul (own_sum, of_own)
    shared_read = MatMul (shared, c_readout_transposed)
    shared_turned = Transpose <perm = [0, 1, 3, 2]> (shared_read)
    shared_shared = Mul (of_shared, shared_turned)
    shared_total = ReduceSum <keepdims = 1> (shared_shared, c_three)
    read_column = Add (shared_total, own_read)
    read = Squeeze (read_column, c_three)
    first, others = Split <axis = 2> (read, c_1t)
    logit = Add (others, logit_bias)
    sloped = Mul (logit, platt_slope)
    line = Add (sloped, platt_shift)
    probability = Sigmoid (line)
    of_interest, of_like, of_skip = Split <axis = 2, num_outputs = 3> (probability)
    interest = Squeeze (of_interest, c_two)
    like = Squeeze (of_like, c_two)
    skip = Squeeze (of_skip, c_two)
}"""


def exported(scale: float) -> onnx.ModelProto:
    """Return the experts as torch exports them; two are closed to `skip`, and two to the others."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> F32:
        return random.normal(size=shape).astype(np.float32)

    gate_bias = weights(T, S + 1)
    gate_bias[:3, 2:4] = gate_bias[3, :2] = -np.inf
    readout = weights(T, E)
    constants = {
        "experts.own.weight": weights(T * E, D),
        "experts.own.bias": weights(T * E),
        "experts.shared.weight": weights(S * E, D),
        "experts.shared.bias": weights(S * E),
        "experts.gate.weight": weights(T * (S + 1), D) * np.float32(scale),
        "logit.bias": weights(T - 1),
        "platt.slope": weights(T - 1),
        "platt.shift": weights(T - 1),
        "c_gate_bias": gate_bias.ravel(),
        "c_readout": readout,
        "c_readout_transposed": readout.T.copy(),
        "c_zero": np.array(0),
        **{f"c_{name}": np.array([axis]) for name, axis in (("two", 2), ("three", 3))},
        **{"c_te": np.array([T, E]), "c_se": np.array([S, E]), "c_tg": np.array([T, S + 1])},
        **{"c_s1": np.array([S, 1]), "c_1t": np.array([1, T - 1])},
    }
    graph = parser.parse_graph(_EXPORTED)
    dotted = {name.replace(".", "_"): name for name in constants}
    for node in graph.node:
        node.input[:] = [dotted.get(name, name) for name in node.input]
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(("users", "candidates"), [(1, 0), (1, 1), (3, 5), (1, 200)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
def test_the_answers_are_those_of_the_exported_graph(users: int, candidates: int, scale: float) -> None:
    model = exported(scale)
    rewritten = rewrite(model, NAMES)
    onnx.checker.check_model(rewritten)
    state = np.random.default_rng(1).normal(size=(users * candidates, D)).astype(np.float32)
    feed = {"state": state, "candidate_ids": np.zeros((users, candidates, 3), np.int64)}
    want, got = (
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feed)
        for m in (model, rewritten)
    )
    assert [output.name for output in rewritten.graph.output] == [OBJECTIVES]
    assert got[0].shape == (users, candidates, T)
    np.testing.assert_allclose(got[0], np.stack(want, axis=-1), atol=1e-6, rtol=1e-5)


def test_gates_far_apart_stay_finite() -> None:
    rewritten = rewrite(exported(1e4), NAMES)
    session = ort.InferenceSession(rewritten.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"state": np.ones((2, D), np.float32), "candidate_ids": np.zeros((1, 2, 3), np.int64)}
    assert np.isfinite(session.run(None, feed)[0]).all()
