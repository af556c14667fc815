"""Which graph of which version a path means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from models.errors import UnknownModel
from models.features import Array
from models.manifest import Graph
from models.runtime import Bundle
from service.adapters.open_inference.tensors import Limits
from service.services import Services

RIGHTS: Final = {"labeler": "label", "ranker": "rerank"}
"""What a key must allow for each: the same as for the endpoint that it is behind."""


@dataclass(frozen=True, slots=True)
class Model:
    """One of the two graphs of the bundle that answers."""

    name: str
    version: str
    graph: Graph
    run: Callable[[Mapping[str, Array], Sequence[str]], dict[str, Array]]
    limits: Limits


def model_of(request: Request, services: Services) -> Model:
    """The graph that the path names.

    Only the version that answers can be asked: others are neither loaded nor tested here, and loading them at
    a caller's word would let callers fill the memory.

    Raises:
        UnknownModel: no such graph, or another version.
        NotReady: no bundle is loaded.
    """
    bundle = services.serving.active()
    name, manifest = request.path_params["model"], bundle.manifest
    version = request.path_params.get("version", manifest.version)
    if version != manifest.version:
        raise UnknownModel(
            f"Version {version[:64]!r} is not loaded, {manifest.version} is; "
            "POST /v1/models/{version}:activate loads another for everybody."
        )
    return _model(name, bundle, services)


def _model(name: str, bundle: Bundle, services: Services) -> Model:
    manifest, settings = bundle.manifest, services.settings
    match name:
        case "labeler":
            rows = {"N": settings.max_events}
            return Model(name, manifest.version, manifest.labeler, bundle.run_labeler, rows)
        case "ranker":
            # As much as one slate may be: attention takes memory by candidates times steps.
            users = settings.max_candidates
            axes = {"B": users, "N": settings.max_candidates, "L": manifest.sequence_length}
            return Model(name, manifest.version, manifest.ranker, bundle.run_ranker, axes)
    raise UnknownModel(f"There is no model {name[:64]!r}; the models are labeler and ranker.")
