"""The whole document, `/openapi.json`."""

from __future__ import annotations

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.docs.parts import Json
from service.api.docs.schemas import RULES, STRUCTS


def install(app: FastAPI, *, keys: bool) -> None:
    """Make `/openapi.json` complete.

    Args:
        app: with every route added.
        keys: whether API keys are configured, so that /docs offers to send one.
    """

    def openapi() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, keys)
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
