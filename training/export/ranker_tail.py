"""The end of an exported ranker, in fewer and wider operators, with all objectives as one output.

torch exports the experts as they are fitted: a softmax over the gates of each objective, products of narrow
tensors, an output an objective. An operator costs about a microsecond whatever it does, and a narrow one
leaves most of a core idle. Here a softmax is exponentials and their sums, one matrix reads all experts for
all objectives, and gates that are always closed are left out. Weights stay as they are, so that a published
bundle can be written again without a fit.
"""

# Shape suffixes: D state, T objectives, S shared experts, E expert width, G gates, H experts in a row.

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
from onnx import TensorProto, helper, numpy_helper, parser
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

from models.arrays import F32
from models.manifest import OBJECTIVES

LOGITS: Final = (-80.0, 60.0)
"""Bounds of the gates' logits, so that no exponential and no sum of them is 0 or infinite in float32."""

_EXPERTS: Final = """experts (float[R, D] state, int64[B, N, K] candidate_ids) => (float[B, N, E] mixed,
                                                                             float[B, N, T] probability) {
    logit = Gemm <transB = 1> (state, c_gate_weight, c_gate_bias)
    bounded = Clip (logit, c_lowest, c_highest)
    share = Exp (bounded)
    total = MatMul (share, c_totals)
    first, others_shared, others_own = Split <axis = 1> (share, c_gates)
    total_first, total_others = Split <axis = 1> (total, c_one_and_others)
    shared_linear = Gemm <transB = 1> (state, c_shared_weight, c_shared_bias)
    shared = Relu (shared_linear)
    own_linear = Gemm <transB = 1> (state, c_own_weight, c_own_bias)
    own = Relu (own_linear)

    first_wide = MatMul (first, c_widen)
    first_heard = Slice (shared, c_zero, c_first_width, c_one)
    first_parts = Mul (first_wide, first_heard)
    first_sum = MatMul (first_parts, c_add)
    first_state = Div (first_sum, total_first)

    shared_read = MatMul (shared, c_read_shared)
    shared_parts = Mul (others_shared, shared_read)
    shared_sum = MatMul (shared_parts, c_totals_shared)
    own_read = MatMul (own, c_read_own)
    own_part = Mul (others_own, own_read)
    parts = Add (shared_sum, own_part)
    mean = Div (parts, total_others)
    sloped = Mul (mean, c_slope)
    calibrated = Add (sloped, c_shift)
    rows = Sigmoid (calibrated)

    size = Shape <start = 0, end = 2> (candidate_ids)
    mixed_size = Concat <axis = 0> (size, c_width)
    mixed = Reshape <allowzero = 1> (first_state, mixed_size)
    probability_size = Concat <axis = 0> (size, c_others)
    probability = Reshape <allowzero = 1> (rows, probability_size)
}"""
"""Names that begin with `c_` are of constants. The first objective, watch time, has a head that reads its
state, `mixed`; of the others only a readout is needed, which is the mixture of the experts' readouts."""


def rewrite(model: onnx.ModelProto, objectives: Sequence[str]) -> onnx.ModelProto:
    """Return a ranker with the output `objectives` `[B, N, T]` in place of an output `[B, N]` an objective.

    Args:
        model: as torch exports it, or as a bundle of a former export has it.
        objectives: their names, in the order of the columns; of a ranker with experts, watch time first.

    Raises:
        RuntimeError: there are experts, but not as `training.rankers` has them.
    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    graph = rewritten.graph
    layers = {node.input[1]: node for node in graph.node if node.op_type == "Gemm"}
    columns: list[str] = []
    if "experts.gate.weight" in layers:
        probability = _rewrite_experts(graph, layers, len(objectives))
        columns = [_add(graph, "Unsqueeze", objectives[0], np.array([2])), probability]
    else:
        columns = [_add(graph, "Unsqueeze", name, np.array([2])) for name in objectives]
    graph.node.append(helper.make_node("Concat", columns, [OBJECTIVES], axis=2))
    outputs = [output for output in graph.output if output.name not in objectives]
    joined = helper.make_tensor_value_info(OBJECTIVES, TensorProto.FLOAT, ["B", "N", len(objectives)])
    del graph.output[:]
    graph.output.extend([*outputs, joined])
    return _in_order(rewritten)


def _rewrite_experts(graph: onnx.GraphProto, layers: Mapping[str, onnx.NodeProto], t: int) -> str:
    """Add the rewritten experts, let the head read their state, and return the name of the probabilities."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    own_TE = _after(graph, _after(graph, layers["experts.own.weight"], "Relu"), "Reshape")
    readout = _after(graph, own_TE, "Mul")
    mixed = _after(graph, _after(graph, _after(graph, own_TE, "Gather"), "Mul"), "Add")
    readout_TE = next(weights[name] for name in readout.input if name in weights)
    gate = layers["experts.gate.weight"]
    constants = _constants(weights, weights[gate.input[2]].reshape(t, -1), readout_TE)
    experts = parser.parse_graph(_EXPERTS)
    known = {"state": gate.input[0], "candidate_ids": "candidate_ids", "mixed": mixed.output[0]}
    for node in experts.node:
        for names in (node.input, node.output):
            names[:] = [known.get(name, f"experts.{name}") for name in names]
    graph.node.remove(mixed)
    graph.node.extend(experts.node)
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array), f"experts.c_{name}")
        for name, array in constants.items()
    )
    return "experts.probability"


def _constants(
    weights: Mapping[str, npt.NDArray[Any]], gate_bias_TG: F32, readout_TE: F32
) -> dict[str, npt.NDArray[Any]]:
    """The constants of `_EXPERTS` from the weights of `training.rankers.Experts`.

    A gate is open where its bias is finite; closed ones, of experts of the other side, are left out.
    """
    t, gates = gate_bias_TG.shape
    s, e = gates - 1, readout_TE.shape[1]
    gate_TGD = weights["experts.gate.weight"].reshape(t, gates, -1)
    heard = [[expert for expert in range(s) if np.isfinite(gate_bias_TG[o, expert])] for o in range(t)]
    first = [*((0, expert) for expert in heard[0]), (0, s)]
    shared = [(o, expert) for o in range(1, t) for expert in heard[o]]
    own = [(o, s) for o in range(1, t)]
    of_objective, of_gate = np.array([*first, *shared, *own]).T

    # The shared experts in a row, those of the first objective in front and its own expert behind them.
    row = [*heard[0], None, *(expert for expert in range(s) if expert not in heard[0])]
    weight_SED = weights["experts.shared.weight"].reshape(s, e, -1)
    bias_SE = weights["experts.shared.bias"].reshape(s, e)
    own_weight_TED = weights["experts.own.weight"].reshape(t, e, -1)
    own_bias_TE = weights["experts.own.bias"].reshape(t, e)
    read_shared_HEG = np.zeros((len(row), e, len(shared)), np.float32)
    for column, (objective, expert) in enumerate(shared):
        read_shared_HEG[row.index(expert), :, column] = readout_TE[objective]
    read_own_TET = np.eye(t - 1, dtype=np.float32)[:, None] * readout_TE[1:, :, None]
    return {
        "gate_weight": gate_TGD[of_objective, of_gate],
        "gate_bias": gate_bias_TG[of_objective, of_gate],
        "lowest": np.float32(LOGITS[0]),
        "highest": np.float32(LOGITS[1]),
        "totals": _indicators(of_objective, range(t)),
        "gates": np.array([len(first), len(shared), len(own)]),
        "one_and_others": np.array([1, t - 1]),
        "shared_weight": np.concatenate([own_weight_TED[0] if x is None else weight_SED[x] for x in row]),
        "shared_bias": np.concatenate([own_bias_TE[0] if x is None else bias_SE[x] for x in row]),
        "own_weight": own_weight_TED[1:].reshape((t - 1) * e, -1),
        "own_bias": own_bias_TE[1:].ravel(),
        "widen": np.eye(len(first), dtype=np.float32).repeat(e, axis=1),
        "add": np.tile(np.eye(e, dtype=np.float32), (len(first), 1)),
        "zero": np.array([0]),
        "first_width": np.array([len(first) * e]),
        "one": np.array([1]),
        "read_shared": read_shared_HEG.reshape(len(row) * e, len(shared)),
        "totals_shared": _indicators([objective for objective, _ in shared], range(1, t)),
        "read_own": read_own_TET.reshape((t - 1) * e, t - 1),
        "slope": weights["platt.slope"],
        "shift": weights["platt.shift"] + weights["platt.slope"] * weights["logit.bias"],
        "width": np.array([e]),
        "others": np.array([t - 1]),
    }


def _indicators(of_row: Iterable[int], columns: Sequence[int]) -> F32:
    """1 in the column of each row's own number, 0 elsewhere."""
    indicators: F32 = (np.array(list(of_row))[:, None] == np.array(columns)).astype(np.float32)
    return indicators


def _after(graph: onnx.GraphProto, node: onnx.NodeProto, operator: str) -> onnx.NodeProto:
    """The first node of this operator that reads what a node gives."""
    name = node.output[0]
    reader: onnx.NodeProto
    for reader in graph.node:
        if reader.op_type == operator and name in reader.input:
            return reader
    raise RuntimeError(f"no {operator} reads {name}: experts are exported in another way now.")


def _add(graph: onnx.GraphProto, operator: str, name: str, constant: npt.NDArray[np.int64]) -> str:
    """Add a node with one constant; return the name of what it gives."""
    added = f"{name}.{operator}"
    graph.initializer.append(numpy_helper.from_array(constant, f"{added}.constant"))
    graph.node.append(helper.make_node(operator, [name, f"{added}.constant"], [added]))
    return added


def _in_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same without what no output needs, every node behind those that it reads."""
    graph = onnx_ir.from_proto(model)
    RemoveUnusedNodesPass()(graph)
    TopologicalSortPass()(graph)
    return onnx_ir.to_proto(graph)
