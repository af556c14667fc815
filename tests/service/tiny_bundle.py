"""A bundle of a few nodes whose answers can be worked out by hand; made without torch, in milliseconds.

Labeler, w watched and d duration: `labelcraft` = clip(w/d, 0, 1), `pcr` = min(w/d, 2)/2. With groups, also
`by_tag` = row of the tag/10 and `by_city` = row of the user's city/10; row 1 is unknown. Of a label y the
percentile is y².

Ranker, over the sequence's sums W of watched and D of duration, candidate duration d (20 s if unknown),
tab row t, profile number `age` a (0 if unknown), author row u, and if it reads histories the k-th newest
entry's video row v_k (0 is padding) and flags l_k (long view) and e_k (like):

    watch_ratio  = (W + 10)/(D + 20) · 30/(30 + d) · (1 + t/100) · (1 + a/1000) · (1 + h)
    h            = Σ_k (v_k + 10 l_k + 100 e_k)/(1000 k)
    watch_time_s = watch_ratio · d         watch_time = watch_time_s/(watch_time_s + 10)
    interest     = sigmoid(u/10)           anchors: weights ¼ ½ ¼ at ½, 1, 1½ times the watch_ratio
    quantiles_s  = ½, 1, 1½ times watch_time_s

With `expected`, also of x = watch_time_s + d: `expected_watch_time_s` = x, `expected_watch_time` = x/(x + 10)
and `states` ½, ¼, ⅛.

A twist makes another ranker: `mirror` answers twice the watch_time_s and sigmoid(-u/10) as interest; `nan`
and `raise` are sound but for candidates of exactly `TROUBLE_S`, where they answer NaN, or fail; `endless`
never answers for a candidate of exactly 20 s, as those of the warm-up are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from models.manifest import (
    EXPECTED_SECONDS,
    EXPECTED_WATCH_TIME,
    LABELER,
    PERCENTILES,
    RANKER,
    WATCH_STATES,
    Graph,
    TensorSpec,
)
from models.store import BundleStore
from models.vocabulary import Vocabulary
from tests.bundle_parts import golden_rows, onnx_model, write_manifest

FIRST: Final = "20260101-00000001"
SECOND: Final = "20260102-00000002"
SEQUENCE_LENGTH: Final = 50
TROUBLE_S: Final = 77.0

Twist = Literal["none", "mirror", "nan", "raise", "endless"]

_FIELDS: Final = Vocabulary(
    {
        "video_id": [f"v{i}" for i in range(100)],
        "author_id": [f"a{i}" for i in range(20)],
        "tag": ["t1", "t2"],
        "tab": ["0", "1"],
        "profile.city": ["1", "2"],
    }
)


def watch_ratio(
    watched_s: float = 0.0, durations_s: float = 0.0, d: float = 20.0, tab_row: int = 3, age: float = 0.0
) -> float:
    """The ranker's, for sums over the sequence. Row 3 is tab `1`, the bundle's default."""
    ratio = (watched_s + 10) / (durations_s + 20)
    return ratio * 30 / (30 + d) * (1 + tab_row / 100) * (1 + age / 1000)


def history_sum(entries: Sequence[tuple[int, bool, bool]]) -> float:
    """The ranker's h, of entries (video row, long view, like), oldest first."""
    return sum(
        (video + 10 * long_view + 100 * like) / 1000 / k
        for k, (video, long_view, like) in enumerate(reversed(entries), 1)
    )


def video_row(video_id: str) -> int:
    """The row of a video in every bundle made here."""
    return _FIELDS.index("video_id", video_id)


def write(
    folder: Path,
    version: str = FIRST,
    *,
    scale: float = 1.0,
    grouped: bool = False,
    percentiles: bool = True,
    expected: bool = False,
    twist: Twist = "none",
    history: bool = False,
) -> Path:
    """Make `folder` a complete version. Another `scale` of `labelcraft` makes other weights."""
    folder.mkdir(parents=True)
    takes = (*_LABELER_IN, *_GROUP_IN) if grouped else _LABELER_IN
    labels = (*_LABELER_OUT, *_GROUP_OUT) if grouped else _LABELER_OUT
    gives = (*labels, *_specs((PERCENTILES, "float32", ("N", len(labels))))) if percentiles else labels
    (folder / LABELER).write_bytes(_labeler(scale, takes, labels, gives))
    ranker_takes = (*_RANKER_IN, *_HISTORY_IN) if history else _RANKER_IN
    predictions = (*_RANKER_OUT, *_EXPECTED_OUT) if expected else _RANKER_OUT
    (folder / RANKER).write_bytes(_ranker(twist, ranker_takes, predictions))
    write_manifest(
        folder,
        version,
        _FIELDS,
        labeler=_graph(folder / LABELER, takes, gives),
        ranker=_graph(folder / RANKER, ranker_takes, predictions),
        labels=tuple(spec.name for spec in labels),
        labels_by_user=("by_city",) if grouped else (),
        objectives=("watch_time", "interest"),
        weights={"watch_time": 1.0, "interest": 1.0},
        sequence_length=SEQUENCE_LENGTH,
        profile_numbers=("age",),
        profile_categories=("city",),
        default_tab="1",
    )
    return folder


def write_root(root: Path, *versions: str) -> BundleStore:
    """A folder of versions, the first promoted, each with a scale of its own."""
    for number, version in enumerate(versions):
        write(root / version, version, scale=1.0 - number / 4)
    store = BundleStore(root)
    store.promote(versions[0])
    return store


def _specs(*rows: tuple[str, str, tuple[int | str, ...]]) -> tuple[TensorSpec, ...]:
    unit = {"int64": "row", "float32": "raw"}
    return tuple(
        TensorSpec.model_validate({"name": n, "dtype": t, "shape": s, "unit": unit[t]}) for n, t, s in rows
    )


_LABELER_IN: Final = _specs(("feedback", "float32", ("N", 8)))
_LABELER_OUT: Final = _specs(("labelcraft", "float32", ("N",)), ("pcr", "float32", ("N",)))
_GROUP_IN: Final = _specs(("group_ids", "int64", ("N", 2)))
_GROUP_OUT: Final = _specs(("by_tag", "float32", ("N",)), ("by_city", "float32", ("N",)))
_RANKER_IN: Final = _specs(
    ("sequence_ids", "int64", ("B", "L", 4)),
    ("sequence_feedback", "float32", ("B", "L", 8)),
    ("sequence_age_s", "float32", ("B", "L")),
    ("candidate_ids", "int64", ("B", "N", 3)),
    ("candidate_duration_s", "float32", ("B", "N")),
    ("context_ids", "int64", ("B", 1)),
    ("profile", "float32", ("B", 1)),
    ("profile_ids", "int64", ("B", 1)),
)
_HISTORY_IN: Final = _specs(
    ("history_ids", "int64", ("B", "H")), ("history_feedback", "float32", ("B", "H", 2))
)
_RANKER_OUT: Final = _specs(
    *((name, "float32", ("B", "N")) for name in ("watch_time_s", "watch_ratio", "interest", "watch_time")),
    *((name, "float32", ("B", "N", 3)) for name in ("anchor_weights", "anchor_ratio", "quantiles_s")),
)
_EXPECTED_OUT: Final = _specs(
    *((name, "float32", ("B", "N")) for name in (EXPECTED_SECONDS, EXPECTED_WATCH_TIME)),
    (WATCH_STATES, "float32", ("B", "N", 3)),
)


class _Net:
    """Nodes by name; constants are made where they are used."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}

    def const(self, value: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def column(self, x: str, index: int, axis: int) -> str:
        return self.op("Gather", x, self.const(index, np.int64), axis=axis)

    def model(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bytes:
        return onnx_model(self.nodes, self.constants, inputs, outputs)


def _labeler(
    scale: float, takes: Sequence[TensorSpec], labels: Sequence[TensorSpec], gives: Sequence[TensorSpec]
) -> bytes:
    net = _Net()
    ratio = net.op("Div", net.column("feedback", 0, 1), net.column("feedback", 1, 1))
    net.op("Mul", net.op("Clip", ratio, net.const(0), net.const(1)), net.const(scale), out="labelcraft")
    net.op("Div", net.op("Clip", ratio, net.const(0), net.const(2)), net.const(2), out="pcr")
    for column, spec in enumerate(labels[len(_LABELER_OUT) :]):
        row = net.op("Cast", net.column("group_ids", column, 1), to=TensorProto.FLOAT)
        net.op("Div", row, net.const(10), out=spec.name)
    if gives != labels:
        columns = [net.op("Unsqueeze", spec.name, net.const([1], np.int64)) for spec in labels]
        joined = net.op("Concat", *columns, axis=1)
        net.op("Mul", joined, joined, out=PERCENTILES)
    return net.model(takes, gives)


def _ranker(twist: Twist, takes: Sequence[TensorSpec], predictions: Sequence[TensorSpec]) -> bytes:
    net = _Net()
    rows = net.const([1], np.int64)
    sums = net.op("ReduceSum", "sequence_feedback", rows, keepdims=0)  # [B, 8]
    watched = net.op("Add", net.op("Slice", sums, *_slice(net, 0)), net.const(10))
    lengths = net.op("Add", net.op("Slice", sums, *_slice(net, 1)), net.const(20))
    tab = net.op("Cast", "context_ids", to=TensorProto.FLOAT)
    age = net.op("Where", net.op("IsNaN", "profile"), net.const(0), "profile")
    user = net.op("Div", watched, lengths)  # [B, 1]
    user = net.op("Mul", user, net.op("Add", net.op("Div", tab, net.const(100)), net.const(1)))
    user = net.op("Mul", user, net.op("Add", net.op("Div", age, net.const(1000)), net.const(1)))
    if takes != _RANKER_IN:
        user = net.op("Mul", user, net.op("Add", _history_sum(net), net.const(1)))
    unknown = net.op("IsNaN", "candidate_duration_s")
    d = net.op("Where", unknown, net.const(20), "candidate_duration_s")
    ratio = net.op("Mul", user, net.op("Div", net.const(30), net.op("Add", d, net.const(30))))
    if twist == "nan":
        ratio = net.op("Where", net.op("Equal", d, net.const(TROUBLE_S)), net.const(np.nan), ratio)
    elif twist == "raise":  # row 1 of a table of one row
        trouble = net.op("Cast", net.op("Equal", d, net.const(TROUBLE_S)), to=TensorProto.INT64)
        ratio = net.op("Mul", ratio, net.op("Gather", net.const([1]), trouble))
    elif twist == "endless":
        is_20 = net.op("Cast", net.op("Equal", d, net.const(20)), to=TensorProto.FLOAT)
        some = net.op("Greater", net.op("ReduceMax", is_20, keepdims=0), net.const(0))
        ratio = net.op("Loop", "", some, ratio, body=_same_again())
    net.op("Identity", ratio, out="watch_ratio")
    seconds = net.op("Mul", ratio, d)
    net.op("Mul", seconds, net.const(2 if twist == "mirror" else 1), out="watch_time_s")
    net.op("Div", seconds, net.op("Add", seconds, net.const(10)), out="watch_time")
    author = net.op("Cast", net.column("candidate_ids", 1, 2), to=TensorProto.FLOAT)
    net.op("Sigmoid", net.op("Div", author, net.const(-10 if twist == "mirror" else 10)), out="interest")
    last = net.const([2], np.int64)
    thirds = net.const([[[0.5, 1.0, 1.5]]])
    ratio3 = net.op("Mul", net.op("Unsqueeze", ratio, last), thirds, out="anchor_ratio")
    net.op("Mul", net.op("Unsqueeze", seconds, last), thirds, out="quantiles_s")
    zeros = net.op("Mul", ratio3, net.const(0))
    net.op("Add", zeros, net.const([[[0.25, 0.5, 0.25]]]), out="anchor_weights")
    if predictions != _RANKER_OUT:
        mean = net.op("Add", seconds, d, out=EXPECTED_SECONDS)
        net.op("Div", mean, net.op("Add", mean, net.const(10)), out=EXPECTED_WATCH_TIME)
        net.op("Add", zeros, net.const([[[0.5, 0.25, 0.125]]]), out=WATCH_STATES)
    return net.model(takes, predictions)


def _history_sum(net: _Net) -> str:
    flags = net.op("MatMul", "history_feedback", net.const([10, 100]))  # [B, H]
    entries = net.op("Add", net.op("Cast", "history_ids", to=TensorProto.FLOAT), flags)
    count = net.op("Gather", net.op("Shape", "history_ids"), net.const(1, np.int64))
    back = net.op("Range", count, net.const(0, np.int64), net.const(-1, np.int64))
    entries = net.op("Div", entries, net.op("Cast", back, to=TensorProto.FLOAT))
    total = net.op("ReduceSum", entries, net.const([1], np.int64), keepdims=1)
    return net.op("Div", total, net.const(1000))


def _same_again() -> onnx.GraphProto:
    """The body of a loop that goes on if it began."""
    tensor = helper.make_tensor_value_info
    condition, value = TensorProto.BOOL, TensorProto.FLOAT
    return helper.make_graph(
        [helper.make_node("Identity", [name], [f"next_{name}"]) for name in ("go_on", "x")],
        "body",
        [tensor("round", TensorProto.INT64, []), tensor("go_on", condition, []), tensor("x", value, None)],
        [tensor("next_go_on", condition, []), tensor("next_x", value, None)],
    )


def _slice(net: _Net, start: int) -> tuple[str, str, str]:
    return net.const([start], np.int64), net.const([start + 1], np.int64), net.const([1], np.int64)


def _graph(path: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Graph:
    """Golden rows are what the graph answers to made-up numbers."""
    rng = np.random.default_rng(0)
    sizes = {"B": 1, "N": 3, "L": 2, "H": 2}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for spec in inputs:
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape]
        numbers = rng.integers(1, 4, shape)
        arrays[spec.name] = numbers.astype(spec.dtype)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers: Mapping[str, Any] = dict(
        zip([s.name for s in outputs], session.run([s.name for s in outputs], arrays), strict=True)
    )
    return Graph(inputs=inputs, outputs=outputs, golden=golden_rows(arrays, answers))
