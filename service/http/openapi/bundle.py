"""What OpenAPI can only say of the bundle that answers: names of labels, objectives, features and tensors."""

from __future__ import annotations

import math

from models.manifest import Graph, Manifest
from service.adapters.metarank.rank import DEFAULT
from service.adapters.open_inference.tensors import DATATYPES
from service.http.openapi.parts import Json
from service.http.openapi.schemas import ID


def name_what_it_has(document: Json, manifest: Manifest) -> None:
    """Put the bundle's names where the document has any string."""
    schemas, paths = document["components"]["schemas"], document["paths"]
    _parameter(paths["/label"]["post"], "labels")["items"] = {"enum": list(manifest.labels)}
    _parameter(paths["/rank/{model}"]["post"], "model")["enum"] = [DEFAULT, *manifest.objectives]
    weights = {
        "type": "object",
        "properties": {name: {"type": "number"} for name in manifest.objectives},
        "additionalProperties": False,
        "minProperties": 1,
        "description": "By objective; what is left out counts 0. Not all may be 0.",
    }
    schemas["RerankRequest"]["properties"]["weights"] = {
        "anyOf": [weights, {"type": "null"}],
        "default": None,
    }
    told = {"type": "array", "items": {"enum": list(manifest.objectives)}}
    schemas["RerankRequest"]["properties"]["objectives"] |= {"anyOf": [told, {"type": "null"}]}
    schemas["UserProfile"]["properties"]["profile"] = {
        "type": "object",
        "properties": {name: {"type": "number"} for name in manifest.profile_numbers}
        | {name: {"anyOf": [ID["anyOf"][0], {"type": "number"}]} for name in manifest.profile_categories},
        "additionalProperties": False,
    }
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        json = paths[path]["post"]["requestBody"]["content"]["application/json"]
        json["examples"] = {"one_row": {"value": _rows_of_ones(manifest.labeler)}}
    graphs = (manifest.labeler, manifest.ranker)
    for struct, names in (
        ("InputTensor", [spec.name for graph in graphs for spec in graph.inputs]),
        ("RequestedOutput", [spec.name for graph in graphs for spec in graph.outputs]),
    ):
        schemas[struct]["properties"]["name"] = {"enum": names}


def _rows_of_ones(graph: Graph) -> Json:
    """A request that the graph takes: every input, of the smallest shape."""
    shapes = {spec.name: [1 if isinstance(dim, str) else dim for dim in spec.shape] for spec in graph.inputs}
    return {
        "id": "42",
        "inputs": [
            {
                "name": spec.name,
                "shape": shapes[spec.name],
                "datatype": DATATYPES[spec.dtype],
                "data": [1] * math.prod(shapes[spec.name]),
            }
            for spec in graph.inputs
        ],
    }


def _parameter(operation: Json, name: str) -> Json:
    schema: Json = next(p for p in operation["parameters"] if p["name"] == name)["schema"]
    return schema
