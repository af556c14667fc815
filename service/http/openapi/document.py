"""The whole document, `/openapi.json`."""

from __future__ import annotations

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.http.openapi.bundle import name_what_it_has
from service.http.openapi.parts import Json
from service.http.openapi.schemas import RULES, STRUCTS
from service.inference.serving_set import Slot


def install(app: FastAPI, slot: Slot, *, keys: bool) -> None:
    """Make `/openapi.json` complete.

    Args:
        app: with every route added.
        slot: the document names what the bundle in it has, and is made again when that changes.
        keys: whether API keys are configured, so that /docs offers to send one.
    """

    told: list[str | None] = []

    def openapi() -> Json:
        if app.openapi_schema is None or told != [slot.version]:
            told[:] = [slot.version]
            app.openapi_schema = _document(app, keys)
            if slot.version is not None:
                name_what_it_has(app.openapi_schema, slot.take().manifest)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, keys: bool) -> Json:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, schemas = msgspec.json.schema_components(STRUCTS, ref_template="#/components/schemas/{name}")
    for struct, members in RULES.items():
        for member, rule in members.items():
            default = {k: v for k, v in schemas[struct]["properties"][member].items() if k == "default"}
            schemas[struct]["properties"][member] = rule | default
    schemas["RerankRequest"]["properties"]["candidates"]["minItems"] = 1
    components = document.setdefault("components", {})
    components["schemas"] = schemas
    # The framework writes `{user_id:path}` as it is in the route.
    document["paths"] = {path.replace(":path}", "}"): item for path, item in document["paths"].items()}
    if keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document
