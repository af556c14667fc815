"""Tensors of a request to arrays of a graph, and outputs to tensors of a reply.

Everything is checked against the manifest before an array is made: names, datatypes, shapes, and whether as
many elements were sent as the shape has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np

from models.errors import BadTensor
from models.features import Array
from models.manifest import Graph, TensorSpec
from service.adapters.open_inference.wire import InputTensor, OutputTensor

DATATYPES: Final = {"float32": "FP32", "int64": "INT64"}
"""The protocol's names of our datatypes."""

_LITTLE_ENDIAN: Final[dict[str, np.dtype[Any]]] = {"float32": np.dtype("<f4"), "int64": np.dtype("<i8")}
_ELEMENTS: Final[dict[str, set[type]]] = {"float32": {int, float, type(None)}, "int64": {int}}
"""JSON types of each; a bool is neither."""

Limits = Mapping[str, int]
"""Largest size per free axis. `N` also bounds the rows of all users together."""


def decode(
    inputs: Sequence[InputTensor], binary: bytes | memoryview, graph: Graph, limits: Limits
) -> dict[str, Array]:
    """Return the arrays of a request.

    Args:
        inputs: in any order.
        binary: what follows the JSON: the tensors that are sent as bytes, in the order of `inputs`.
        graph: what the tensors must fit.
        limits: of free axes.

    Raises:
        BadTensor: an input is missing, unknown, or not of its datatype, shape or size.
    """
    specs = {spec.name: spec for spec in graph.inputs}
    _check_names([tensor.name for tensor in inputs], list(specs))
    sizes: dict[str, int] = {}
    for tensor in inputs:
        _check_shape(tensor, specs[tensor.name], sizes)
    _check_limits(sizes, limits)
    arrays: dict[str, Array] = {}
    offset = 0
    for tensor in inputs:
        spec = specs[tensor.name]
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            arrays[tensor.name] = _from_json(tensor, spec)
        else:
            arrays[tensor.name] = _from_bytes(tensor, spec, binary[offset:], size)
            offset += size
    if offset != len(binary):
        raise BadTensor(f"There are {len(binary)} bytes behind the JSON, the inputs name {offset} of them.")
    return arrays


def encode(name: str, array: Array, *, binary: bool) -> tuple[OutputTensor, bytes]:
    """Return an output as part of the reply's JSON, and its bytes after it if it is sent as bytes."""
    dtype = str(array.dtype)
    shape, datatype = list(array.shape), DATATYPES[dtype]
    if not binary:
        return OutputTensor(name, shape, datatype, data=array.ravel().tolist()), b""
    raw = np.ascontiguousarray(array, _LITTLE_ENDIAN[dtype]).tobytes()
    return OutputTensor(name, shape, datatype, parameters={"binary_data_size": len(raw)}), raw


def _check_names(names: list[str], inputs: list[str]) -> None:
    for name in names:
        if name not in inputs:
            raise BadTensor(f"There is no input {name[:64]!r}; the inputs are {', '.join(inputs)}.")
    if len(set(names)) != len(names):
        raise BadTensor("An input is named more than once.")
    if missing := [name for name in inputs if name not in names]:
        raise BadTensor(f"Input {missing[0]!r} is missing; the inputs are {', '.join(inputs)}.")


def _check_shape(tensor: InputTensor, spec: TensorSpec, sizes: dict[str, int]) -> None:
    """Check datatype and shape; `sizes` collects the free axes, which must be the same in every input."""
    datatype = DATATYPES[spec.dtype]
    if tensor.datatype != datatype:
        raise BadTensor(f"Input {spec.name!r} is {datatype}, found {tensor.datatype[:64]!r}.")
    expected = f"[{', '.join(map(str, spec.shape))}]"
    if len(tensor.shape) != len(spec.shape):
        raise BadTensor(f"Input {spec.name!r} has shape {expected}, found {len(tensor.shape)} axes.")
    for size, dim in zip(tensor.shape, spec.shape, strict=True):
        known = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
        if size != known or size < 0:
            axes = f" with {_format(sizes)}" if isinstance(dim, str) else ""
            raise BadTensor(f"Input {spec.name!r} has shape {expected}{axes}, found {tensor.shape}.")


def _check_limits(sizes: Mapping[str, int], limits: Limits) -> None:
    for axis, limit in limits.items():
        size = sizes.get(axis, 0)
        if size > limit:
            raise BadTensor(f"Axis {axis} is at most {limit}, found {size}.")
    rows = sizes.get("B", 1) * sizes.get("N", 0)
    if rows > limits["N"]:
        raise BadTensor(f"At most {limits['N']} rows of all users together, found {rows} ({_format(sizes)}).")


def _format(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{axis} = {size}" for axis, size in sizes.items())


def _from_json(tensor: InputTensor, spec: TensorSpec) -> Array:
    if tensor.data is None:
        raise BadTensor(f"Input {spec.name!r} has neither `data` nor `binary_data_size`.")
    values = tensor.data
    while values and all(type(value) is list for value in values):  # nested: row by row
        values = list(chain.from_iterable(values))
    _check_size(spec, len(values), math.prod(tensor.shape), "elements")
    if not set(map(type, values)) <= _ELEMENTS[spec.dtype]:  # of uneven rows some stay lists
        raise BadTensor(f"`data` of input {spec.name!r} must hold {DATATYPES[spec.dtype]} numbers only.")
    try:
        with np.errstate(over="ignore"):  # what is beyond a float32 is its infinity
            array: Array = np.array(values, spec.dtype).reshape(tensor.shape)
    except OverflowError:
        raise BadTensor(f"`data` of input {spec.name!r} holds a number that is too large.") from None
    return array


def _from_bytes(tensor: InputTensor, spec: TensorSpec, binary: bytes | memoryview, size: Any) -> Array:
    if tensor.data is not None:
        raise BadTensor(f"Input {spec.name!r} has both `data` and `binary_data_size`.")
    if type(size) is not int or size < 0:
        raise BadTensor(f"`binary_data_size` of input {spec.name!r} must be a number of bytes.")
    dtype = _LITTLE_ENDIAN[spec.dtype]
    _check_size(spec, size, math.prod(tensor.shape) * dtype.itemsize, "bytes")
    if size > len(binary):
        raise BadTensor(f"Input {spec.name!r} has {size} bytes, the body holds {len(binary)} more.")
    array: Array = np.frombuffer(binary[:size], dtype).astype(spec.dtype).reshape(tensor.shape)
    return array


def _check_size(spec: TensorSpec, size: int, expected: int, unit: str) -> None:
    if size != expected:
        raise BadTensor(f"Input {spec.name!r} has {size} {unit}, its shape needs {expected}.")
