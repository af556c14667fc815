"""What /openapi.json is made of, and how it is assembled.

Handlers read raw bytes, so the framework knows none of their types. Each family of endpoints describes its
operations with `operation` and contributes a `Section`; schemas come from the structs that decode and encode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from models.manifest import Manifest
from service.inference.serving_set import Serving
from service.wire import Problem

Json = dict[str, Any]
Struct = type[msgspec.Struct]


class Section(NamedTuple):
    """The part of the document that one family of endpoints contributes."""

    structs: Sequence[Struct]
    """Of requests and replies."""
    complete: Callable[[Json, Manifest | None], None]
    """Adds what the structs do not know, such as the names of the loaded bundle's objectives."""


def structs_in(module: ModuleType) -> list[Struct]:
    """Return the public structs that a module defines."""
    defined = (value for name, value in vars(module).items() if not name.startswith("_"))
    return [
        value
        for value in defined
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
    ]


def install(app: FastAPI, serving: Serving, sections: Sequence[Section], *, keys: bool) -> None:
    """Serve the complete document at `/openapi.json`.

    Args:
        app: with every route added.
        serving: the document is made again when the version in it changes.
        sections: of the families of endpoints.
        keys: whether API keys are configured, so that /docs offers to send one.
    """
    version: str | None = None

    def openapi() -> Json:
        nonlocal version
        if app.openapi_schema is None or version != serving.version:
            version = serving.version
            app.openapi_schema = _assemble(app, sections, keys)
            manifest = None if version is None else serving.active().manifest
            for section in sections:
                section.complete(app.openapi_schema, manifest)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _assemble(app: FastAPI, sections: Sequence[Section], keys: bool) -> Json:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    structs = [struct for section in sections for struct in section.structs]
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    document["components"] = {"schemas": schemas}
    # The framework writes `{user_id:path}` as it is in the route.
    document["paths"] = {path.replace(":path}", "}"): item for path, item in document["paths"].items()}
    for path, item in document["paths"].items():
        in_path = [parameter(name, {"type": "string"}, "path") for name in re.findall(r"{(\w+)}", path)]
        for described in item.values() if in_path else ():
            described["parameters"] = in_path + described.get("parameters", [])
    if keys:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def ref(struct: Struct) -> Json:
    """Return a reference to the schema of a struct."""
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def array(items: Json, **rules: Any) -> Json:
    """Return the schema of an array."""
    return {"type": "array", "items": items, **rules}


PROBLEMS: Final = {
    status: {"description": text, "content": {"application/problem+json": {"schema": ref(Problem)}}}
    for status, text in {
        "400": "Not JSON, or not UTF-8.",
        "401": "No key.",
        "403": "A key without the right.",
        "404": "Unknown.",
        "408": "The body has not arrived within REELRANK_BODY_TIMEOUT_S.",
        "409": "Contradicts what is stored.",
        "413": "The body is larger than REELRANK_MAX_BODY_BYTES.",
        "415": "Another content type, or a compressed body.",
        "422": "Well-formed, but a value breaks its rule.",
        "429": "Refused for now, nothing was done: see `Retry-After`.",
        "503": "No bundle, the store is unavailable, or too late: see `Retry-After`.",
    }.items()
}

BODY_ERRORS: Final = ("400", "401", "403", "408", "413", "415", "422", "429", "503")
"""Statuses of the operations that read a JSON body."""


def operation(
    example: Any,
    *statuses: str,
    schema: Json | None = None,
    body: Json | None = None,
    parameters: Sequence[Json] = (),
    links: Json | None = None,
) -> Json:
    """Describe one operation; parameters in the path need no description.

    Args:
        example: reply with status 200, a struct.
        statuses: its other statuses, keys of `PROBLEMS`.
        schema: of the reply; by default that of the example's struct.
        body: content types it reads, see `json`.
        parameters: in the query and the headers.
        links: possible next calls by name, see `link`.
    """
    content = {"schema": schema or ref(type(example)), "example": msgspec.to_builtins(example)}
    ok: Json = {"description": "Done.", "content": {"application/json": content}}
    if "401" in statuses:  # a key has rights, and a rate limit
        statuses += ("429",)
    out: Json = {"responses": {"200": ok, **{status: PROBLEMS[status] for status in statuses}}}
    if links:
        ok["links"] = links
    if body:
        out["requestBody"] = {"required": True, "content": body}
    if parameters:
        out["parameters"] = [*parameters]
    return out


def json(schema: Json, **examples: Any) -> Json:
    """Describe a JSON body with named examples."""
    named = {name: {"value": msgspec.to_builtins(value)} for name, value in examples.items()}
    return {"application/json": {"schema": schema, "examples": named}}


def ndjson(schema: Json, example: Any) -> Json:
    """Describe a body of JSON lines."""
    return {"application/x-ndjson": {"schema": schema, "example": msgspec.to_builtins(example)}}


def parameter(name: str, schema: Json, location: str = "query", description: str = "") -> Json:
    """Describe a parameter in the query, the path or a header."""
    required = location == "path"
    return {"name": name, "in": location, "required": required, "schema": schema, "description": description}


def link(target: str, **expressions: Any) -> Json:
    """Describe a possible next call.

    Args:
        target: method and path of the other operation, e.g. `get /v1/models`.
        expressions: its `parameters` or its `requestBody`, as runtime expressions.
    """
    method, _, path = target.partition(" ")
    return {"operationRef": f"#/paths/{path.replace('/', '~1')}/{method}", **expressions}
