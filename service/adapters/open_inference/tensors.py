"""Tensors of a request -> arrays of a graph, and outputs -> tensors of a reply.

Everything is checked against the manifest before an array is made: names, datatypes, shapes, how many
elements the shape says and how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np

from models.errors import BadTensor
from models.features import Array
from models.manifest import Dim, Graph, TensorSpec
from service.adapters.open_inference.wire import InputTensor, OutputTensor

DATATYPES: Final = {"float32": "FP32", "int64": "INT64"}
"""The protocol's names of what our graphs hold."""

_LITTLE_ENDIAN: Final[dict[str, np.dtype[Any]]] = {"float32": np.dtype("<f4"), "int64": np.dtype("<i8")}
_ELEMENTS: Final[dict[str, set[type]]] = {"float32": {int, float, type(None)}, "int64": {int}}
"""What JSON may hold of each; a bool is neither."""

Limits = Mapping[str, int]
"""By free axis, the most it may be. `N` bounds the rows of all users together."""


def read(
    inputs: Sequence[InputTensor], binary: bytes | memoryview, graph: Graph, limits: Limits
) -> dict[str, Array]:
    """The arrays of a request.

    Args:
        inputs: as they were sent, in any order.
        binary: what came behind the JSON; the tensors that are sent so lie in it in the order of `inputs`.
        graph: what the tensors must fit.
        limits: see there.

    Raises:
        BadTensor: an input is missing, unknown, or not of its datatype, shape or size.
    """
    specs = {spec.name: spec for spec in graph.inputs}
    _all_there(inputs, specs)
    sizes: dict[str, int] = {}
    for tensor in inputs:
        _fit(tensor, specs[tensor.name], sizes)
    _within(sizes, limits)
    arrays: dict[str, Array] = {}
    at = 0
    for tensor in inputs:
        spec = specs[tensor.name]
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            arrays[tensor.name] = _from_json(tensor, spec)
        else:
            arrays[tensor.name] = _from_bytes(tensor, spec, binary[at:], size)
            at += size
    if at != len(binary):
        raise BadTensor(f"There are {len(binary)} bytes behind the JSON, the inputs name {at} of them.")
    return arrays


def written(name: str, array: Array, *, binary: bool) -> tuple[OutputTensor, bytes]:
    """An output as the reply holds it, and its bytes behind the JSON if it is sent so."""
    dtype = str(array.dtype)
    shape, datatype = list(array.shape), DATATYPES[dtype]
    if not binary:
        return OutputTensor(name, shape, datatype, data=array.ravel().tolist()), b""
    raw = np.ascontiguousarray(array, _LITTLE_ENDIAN[dtype]).tobytes()
    return OutputTensor(name, shape, datatype, parameters={"binary_data_size": len(raw)}), raw


def _all_there(inputs: Sequence[InputTensor], specs: Mapping[str, TensorSpec]) -> None:
    names = [tensor.name for tensor in inputs]
    for name in names:
        if name not in specs:
            raise BadTensor(f"There is no input {name[:64]!r}; the inputs are {', '.join(specs)}.")
    if len(set(names)) != len(names):
        raise BadTensor("An input is named more than once.")
    if missing := [name for name in specs if name not in names]:
        raise BadTensor(f"Input {missing[0]!r} is missing; the inputs are {', '.join(specs)}.")


def _fit(tensor: InputTensor, spec: TensorSpec, sizes: dict[str, int]) -> None:
    """Datatype and shape; `sizes` gathers the free axes, which must be the same in every input."""
    want = DATATYPES[spec.dtype]
    if tensor.datatype != want:
        raise BadTensor(f"Input {spec.name!r} is {want}, found {tensor.datatype[:64]!r}.")
    expected = f"[{', '.join(map(str, spec.shape))}]"
    if len(tensor.shape) != len(spec.shape):
        raise BadTensor(f"Input {spec.name!r} has shape {expected}, found {len(tensor.shape)} axes.")
    for size, dim in zip(tensor.shape, spec.shape, strict=True):
        known = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
        if size != known or size < 0:
            where = f" with {_told(sizes)}" if isinstance(dim, str) else ""
            raise BadTensor(f"Input {spec.name!r} has shape {expected}{where}, found {tensor.shape}.")


def _within(sizes: Mapping[str, int], limits: Limits) -> None:
    for axis, limit in limits.items():
        size = sizes.get(axis, 0)
        if size > limit:
            raise BadTensor(f"Axis {axis} is at most {limit}, found {size}.")
    rows = sizes.get("B", 1) * sizes.get("N", 0)
    if rows > limits["N"]:
        raise BadTensor(f"At most {limits['N']} rows of all users together, found {rows} ({_told(sizes)}).")


def _from_json(tensor: InputTensor, spec: TensorSpec) -> Array:
    if tensor.data is None:
        raise BadTensor(f"Input {spec.name!r} has neither `data` nor `binary_data_size`.")
    values = _flat(tensor.data)
    _sized(spec, len(values), math.prod(tensor.shape), "elements")
    if not set(map(type, values)) <= _ELEMENTS[spec.dtype]:
        raise BadTensor(f"`data` of input {spec.name!r} must hold {DATATYPES[spec.dtype]} numbers only.")
    try:
        with np.errstate(over="ignore"):  # what is beyond a float32 is its infinity
            out: Array = np.array(values, spec.dtype).reshape(tensor.shape)
    except OverflowError:
        raise BadTensor(f"`data` of input {spec.name!r} holds a number that is too large.") from None
    return out


def _from_bytes(tensor: InputTensor, spec: TensorSpec, binary: bytes | memoryview, size: Any) -> Array:
    if tensor.data is not None:
        raise BadTensor(f"Input {spec.name!r} has both `data` and `binary_data_size`.")
    if type(size) is not int or size < 0:
        raise BadTensor(f"`binary_data_size` of input {spec.name!r} must be a number of bytes.")
    dtype = _LITTLE_ENDIAN[spec.dtype]
    _sized(spec, size, math.prod(tensor.shape) * dtype.itemsize, "bytes")
    if size > len(binary):
        raise BadTensor(f"Input {spec.name!r} has {size} bytes, the body holds {len(binary)} more.")
    out: Array = np.frombuffer(binary[:size], dtype).astype(spec.dtype).reshape(tensor.shape)
    return out


def _sized(spec: TensorSpec, found: int, want: int, what: str) -> None:
    if found != want:
        raise BadTensor(f"Input {spec.name!r} has {found} {what}, its shape says {want}.")


def _flat(values: list[Any]) -> list[Any]:
    """Nested lists row by row. What is uneven stays a list somewhere, and is then no number."""
    while values and all(type(value) is list for value in values):
        values = list(chain.from_iterable(values))
    return values


def _told(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{axis} = {size}" for axis, size in sizes.items())


def shape(dims: Iterable[Dim]) -> list[int]:
    """A shape as the protocol writes it: a free axis is -1."""
    return [-1 if isinstance(dim, str) else dim for dim in dims]
