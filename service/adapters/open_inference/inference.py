"""A request's bytes to tensors, through a graph, and back to bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from models.errors import BadTensor, Invalid
from models.features import Array
from models.manifest import Graph
from service.adapters.open_inference import tensors
from service.adapters.open_inference.wire import InferReply, InferRequest
from service.http.errors import without_folders
from service.pipeline.decoding import check_containers, decode

UNSUPPORTED: Final = ("shared_memory_region", "classification")
"""Parameters of Triton's extensions that change what a tensor means: ignoring them would answer wrongly."""

_request: Final = msgspec.json.Decoder(InferRequest)


@dataclass(frozen=True, slots=True)
class Model:
    """One of the two graphs of the active bundle."""

    name: str
    version: str
    graph: Graph
    run: Callable[[Mapping[str, Array], Sequence[str]], dict[str, Array]]
    limits: tensors.Limits


def infer(model: Model, body: bytes, length: int | None) -> tuple[bytes, bytes]:
    """Decode a body, run the graph, encode the reply.

    Args:
        model: what to run.
        body: JSON, and tensors after it.
        length: bytes of JSON; `None` is all of them.

    Returns:
        The reply's JSON, and the tensors after it.

    Raises:
        NotJson: the JSON is none.
        BadTensor: it is not a request of the protocol, or does not fit the graph.
    """
    head = body if length is None else body[:length]
    try:
        check_containers(head)
        request = decode(_request, head)
        (request.id or "").encode()
    except UnicodeEncodeError:
        raise BadTensor("`id` holds a lone surrogate, which is not UTF-8.") from None
    except Invalid as e:
        raise BadTensor(f"{e.loc}: {e}" if e.loc else str(e)) from None
    for tensor in (*request.inputs, *(request.outputs or ())):
        if unsupported := [name for name in UNSUPPORTED if name in tensor.parameters]:
            raise BadTensor(f"`{unsupported[0]}` is not supported here; send and take tensors in the body.")
    requested = _requested_outputs(request, model.graph)
    arrays = tensors.decode(request.inputs, memoryview(body)[len(head) :], model.graph, model.limits)
    try:
        outputs = model.run(arrays, list(requested))
    except Exception as e:  # onnxruntime raises a class of its own per status code, without a common base
        reason = without_folders(str(e).splitlines()[0])[:300]
        raise BadTensor(f"The graph cannot compute this: {reason}") from None
    encoded = [tensors.encode(name, outputs[name], binary=binary) for name, binary in requested.items()]
    reply = InferReply(model.name, model.version, [tensor for tensor, _ in encoded], request.id)
    return msgspec.json.encode(reply), b"".join(raw for _, raw in encoded)


def _requested_outputs(request: InferRequest, graph: Graph) -> dict[str, bool]:
    """Return the names of the outputs to answer, and whether each is sent as bytes."""
    names = [spec.name for spec in graph.outputs]
    default = _flag(request.parameters, "binary_data_output", default=False)
    if not request.outputs:
        return dict.fromkeys(names, default)
    for output in request.outputs:
        if output.name not in names:
            raise BadTensor(f"There is no output {output.name[:64]!r}; the outputs are {', '.join(names)}.")
    return {
        output.name: _flag(output.parameters, "binary_data", default=default) for output in request.outputs
    }


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadTensor(f"`{name}` must be true or false.")
    return value
