"""The protocol's objects. Members that it allows and this service has no use for are let through."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


class RequestedOutput(msgspec.Struct, frozen=True):
    """One output to be answered."""

    name: str
    parameters: dict[str, Any] = {}
    """`binary_data`: as bytes behind the JSON; without it, as `binary_data_output` of the request says."""


class InputTensor(msgspec.Struct, frozen=True):
    """One tensor of a request."""

    name: str
    shape: list[Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0})]]
    datatype: str
    parameters: dict[str, Any] = {}
    """`binary_data_size`: how many of the bytes behind the JSON are this tensor's."""
    data: list[Any] | None = None
    """Row by row, flat or nested. In FP32, `null` and `NaN` are NaN. None when it is sent as bytes."""


class InferRequest(msgspec.Struct, frozen=True):
    """POST …/infer. Every input of the graph must be there."""

    inputs: list[InputTensor]
    id: str | None = None
    """Comes back in the reply."""
    parameters: dict[str, Any] = {}
    """`binary_data_output`: all outputs as bytes, if an output does not say otherwise."""
    outputs: list[RequestedOutput] | None = None
    """All of them, if left out."""


class OutputTensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tensor of a reply."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, int] = {}
    """`binary_data_size`, when the tensor is bytes behind the JSON."""
    data: list[Any] | None = None
    """Flat, row by row; a value that JSON cannot hold (NaN, infinity) is `null`. As bytes it is exact."""


class InferReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outputs, in the order they were asked for."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


class TensorMetadata(msgspec.Struct, frozen=True):
    """A tensor of a graph."""

    name: str
    datatype: str
    """FP32 or INT64."""
    shape: list[int]
    """-1 is a free axis."""


class ModelMetadata(msgspec.Struct, frozen=True):
    """A graph of the bundle that answers."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct, frozen=True):
    """The service as the protocol sees it."""

    name: str
    version: str
    extensions: list[str]


class ModelReady(msgspec.Struct, frozen=True):
    """The model answers."""

    name: str
    ready: bool = True
