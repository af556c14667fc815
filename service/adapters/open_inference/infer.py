"""POST /v2/models/{model}/infer."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import BadTensor, Invalid, WrongContentType
from service.adapters.open_inference import docs, tensors
from service.adapters.open_inference.graphs import RIGHTS, Model, model_of
from service.adapters.open_inference.wire import InferReply, InferRequest, OutputTensor
from service.http.request import JSON
from service.inference import compute
from service.pipeline.decoding import check_containers, decode
from service.services import services_of
from service.telemetry.trace import current_trace

router = APIRouter(tags=["open inference protocol"])

HEADER_LENGTH: Final = "inference-header-content-length"
"""How many bytes of a body are JSON; the others are tensors."""

OCTETS: Final = "application/octet-stream"

BYTES_A_ROW: Final = 32
"""A row of either graph takes about as many at least: so many rows are admitted before they are read."""

INLINE_BYTES: Final = 16 * 1024
"""Bodies up to this size, a slate of some 500, are computed on the event loop; larger ones in a thread."""

UNSUPPORTED: Final = ("shared_memory_region", "classification")
"""Parameters of Triton's extensions that change what a tensor means: ignoring them would answer wrongly."""

_request: Final = msgspec.json.Decoder(InferRequest)
_encode: Final = msgspec.json.Encoder().encode


@router.post("/v2/models/{model}/infer", openapi_extra=docs.INFER)
@router.post(
    "/v2/models/{model}/versions/{version}/infer",
    openapi_extra=docs.INFER,
)
async def post_infer(request: Request) -> Response:
    """Run a raw graph: `labeler` (right `label`) or `ranker` (right `rerank`).

    Tensors are JSON, or bytes behind the JSON (binary tensor data extension). Inputs are what
    `models.features` makes: rows of the vocabulary, seconds, and flags as 0 and 1.
    """
    services, trace = services_of(request), current_trace()
    right = RIGHTS.get(request.path_params["model"], "read")
    services.keys.check(request.headers.get("authorization"), right)
    model = model_of(request, services)
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise WrongContentType("Compressed bodies are not read; send it without Content-Encoding.")
    body = await services.reader.body(request)
    length = _header_length(request, len(body))
    trace.mark("parse")
    rows, admission = len(body) // BYTES_A_ROW, services.admission
    budget = admission.events if model.name == "labeler" else admission.candidates
    with budget.take(rows):
        answer, raw = await compute.run(len(body) <= INLINE_BYTES, infer, model, body, length)
    trace.mark("inference")
    if not raw:
        return Response(answer, media_type=JSON)
    return Response(answer + raw, media_type=OCTETS, headers={HEADER_LENGTH: str(len(answer))})


def infer(model: Model, body: bytes, length: int | None) -> tuple[bytes, bytes]:
    """Read a body, run the graph, write the reply.

    Args:
        model: what to run.
        body: JSON, and tensors behind it.
        length: bytes of JSON; `None`: all of them.

    Returns:
        The reply's JSON and what lies behind it.

    Raises:
        NotJson: the JSON is none.
        BadTensor: it is not a request of the protocol, or does not fit the graph.
    """
    head = body if length is None else body[:length]
    try:
        check_containers(head)
        asked = decode(_request, head)
    except Invalid as e:
        raise BadTensor(f"{e.loc}: {e}" if e.loc else str(e)) from None
    for tensor in (*asked.inputs, *(asked.outputs or ())):
        if odd := [name for name in UNSUPPORTED if name in tensor.parameters]:
            raise BadTensor(f"`{odd[0]}` is not supported here; send and take tensors in the body.")
    wanted = _wanted(asked, model)
    behind = memoryview(body)[len(head) :]
    arrays = tensors.read(asked.inputs, behind, model.graph, model.limits)
    try:
        out = model.run(arrays, list(wanted))
    except Exception as e:  # onnxruntime raises a class of its own per status code, without a common base
        raise BadTensor(f"The graph cannot compute this: {str(e).splitlines()[0][:300]}") from None
    parts: list[bytes] = []
    outputs: list[OutputTensor] = []
    for name, binary in wanted.items():
        tensor_out, raw = tensors.written(name, out[name], binary=binary)
        outputs.append(tensor_out)
        parts.append(raw)
    reply = InferReply(model.name, model.version, outputs, asked.id)
    return _encode(reply), b"".join(parts)


def _wanted(asked: InferRequest, model: Model) -> dict[str, bool]:
    """The outputs to answer, and whether each goes as bytes."""
    there = [spec.name for spec in model.graph.outputs]
    everything = _flag(asked.parameters, "binary_data_output", default=False)
    if not asked.outputs:
        return dict.fromkeys(there, everything)
    wanted: dict[str, bool] = {}
    for output in asked.outputs:
        if output.name not in there:
            raise BadTensor(f"There is no output {output.name[:64]!r}; the outputs are {', '.join(there)}.")
        wanted[output.name] = _flag(output.parameters, "binary_data", default=everything)
    return wanted


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadTensor(f"`{name}` must be true or false.")
    return value


def _header_length(request: Request, size: int) -> int | None:
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= size):
        raise BadTensor(f"Inference-Header-Content-Length must be 0 to {size}, found {text[:32]!r}.")
    return int(text)
