"""OpenAPI of the Open Inference Protocol's endpoints."""

from __future__ import annotations

import math
from typing import Final

from models.manifest import Graph, Manifest
from service.adapters.open_inference import wire
from service.adapters.open_inference.tensors import DATATYPES
from service.http.openapi.document import Json, Section, json, link, operation, parameter, ref, structs_in
from service.http.openapi.operations import VERSION

_ERRORS: Final = ("401", "403", "404", "503")
_VERSIONED: Final = "/v2/models/{model}/versions/{version}"
_THIS_VERSION: Final = {"model": "$response.body#/name", "version": "$response.body#/versions/0"}

SERVER: Final = operation(wire.ServerMetadata("reelrank", "0.1.0", ["binary_tensor_data"]), "401", "403")
MODEL: Final = operation(
    wire.ModelMetadata(
        name="labeler",
        versions=[VERSION],
        platform="onnxruntime_onnx",
        inputs=[wire.TensorMetadata("feedback", "FP32", [-1, 8])],
        outputs=[wire.TensorMetadata("labelcraft", "FP32", [-1])],
    ),
    *_ERRORS,
)
MODEL_READY: Final = operation(wire.ModelReady("labeler"), "404", "503")

_LENGTH: Final = parameter(
    "Inference-Header-Content-Length",
    {"type": "integer", "minimum": 0},
    "header",
    "Bytes of the body that are JSON; the tensors with a `binary_data_size` follow.",
)
_OCTETS: Final[Json] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
INFER: Final = operation(
    wire.InferReply("labeler", VERSION, [wire.OutputTensor("labelcraft", [1], "FP32", data=[0.83])], "42"),
    *("400", "413", "415", *_ERRORS),
    body=json(ref(wire.InferRequest)) | _OCTETS,
    parameters=[_LENGTH],
)
INFER["responses"]["200"]["content"] |= _OCTETS
INFER["responses"]["200"]["headers"] = {
    _LENGTH["name"]: {"description": "Bytes of JSON, if tensors follow.", "schema": {"type": "integer"}}
}


def _complete(document: Json, manifest: Manifest | None) -> None:
    """Write the names of graphs and tensors, and an example that the labeler takes."""
    schemas, paths = document["components"]["schemas"], document["paths"]
    for path in paths:
        if path.startswith("/v2/models/{model}"):
            (described,) = paths[path].values()
            described["parameters"][0]["schema"]["enum"] = ["labeler", "ranker"]
    paths["/v2/models/{model}"]["get"]["responses"]["200"]["links"] = {
        "version": link(f"get {_VERSIONED}", parameters=_THIS_VERSION),
        "ready": link(f"get {_VERSIONED}/ready", parameters=_THIS_VERSION),
        "infer": link(f"post {_VERSIONED}/infer", parameters=_THIS_VERSION),
    }
    tensor = schemas["InputTensor"]["properties"]
    tensor["datatype"] = {"enum": [*DATATYPES.values()]}
    if manifest is None:
        return
    graphs = (manifest.labeler, manifest.ranker)
    tensor["name"] = {"enum": [spec.name for graph in graphs for spec in graph.inputs]}
    outputs = [spec.name for graph in graphs for spec in graph.outputs]
    schemas["RequestedOutput"]["properties"]["name"] = {"enum": outputs}
    for path in ("/v2/models/{model}/infer", f"{_VERSIONED}/infer"):
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        content["examples"] = {"one_row": {"value": _one_row(manifest.labeler)}}


def _one_row(graph: Graph) -> Json:
    """Return a request with every input of the graph, in its smallest shape."""
    inputs = []
    for spec in graph.inputs:
        shape = [1 if isinstance(dim, str) else dim for dim in spec.shape]
        data = [1] * math.prod(shape)
        inputs.append({"name": spec.name, "shape": shape, "datatype": DATATYPES[spec.dtype], "data": data})
    return {"id": "42", "inputs": inputs}


SECTION: Final = Section(structs_in(wire), _complete)
