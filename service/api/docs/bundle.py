"""What OpenAPI can only say of the bundle that answers: names of labels, objectives, features and tensors."""

from __future__ import annotations

from models.manifest import Manifest
from service.api.docs.parts import Json
from service.api.docs.schemas import ID
from service.api.metarank.rank import DEFAULT


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
    schemas["UserProfile"]["properties"]["profile"] = {
        "type": "object",
        "properties": {name: {"type": "number"} for name in manifest.profile_numbers}
        | {name: {"anyOf": [ID["anyOf"][0], {"type": "number"}]} for name in manifest.profile_categories},
        "additionalProperties": False,
    }
    graphs = (manifest.labeler, manifest.ranker)
    for struct, names in (
        ("InputTensor", [spec.name for graph in graphs for spec in graph.inputs]),
        ("RequestedOutput", [spec.name for graph in graphs for spec in graph.outputs]),
    ):
        schemas[struct]["properties"]["name"] = {"enum": names}


def _parameter(operation: Json, name: str) -> Json:
    schema: Json = next(p for p in operation["parameters"] if p["name"] == name)["schema"]
    return schema
