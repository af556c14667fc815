"""What descriptions of operations are made of."""

from __future__ import annotations

from typing import Any, Final

from service import wire

Json = dict[str, Any]


def ref(struct: type) -> Json:
    """A struct that `schemas` lists, by its name."""
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def problem(description: str) -> Json:
    """A status that is answered with a problem document."""
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": ref(wire.Problem)}},
    }


STATUSES: Final = {
    "400": problem("Not JSON, or not UTF-8."),
    "401": problem("No key."),
    "403": problem("A key without the right."),
    "404": problem("Unknown."),
    "408": problem("The body has not arrived within REELRANK_BODY_TIMEOUT_S."),
    "409": problem("Contradicts what is there."),
    "413": problem("The body is larger than REELRANK_MAX_BODY_BYTES."),
    "415": problem("Another content type, or a compressed body."),
    "422": problem("Well-formed, but a value breaks its rule."),
    "429": problem("Refused for now, nothing was done: see `Retry-After`."),
    "503": problem("No bundle, the store is away, or too late: see `Retry-After`."),
}


def operation(
    reply: Json,
    example: Any = None,
    *statuses: str,
    body: Json | None = None,
    query: list[Json] | None = None,
) -> Json:
    """One operation.

    Args:
        reply: schema of the answer to status 200.
        example: of that answer.
        statuses: the others it may have, keys of `STATUSES`.
        body: what it takes, by content type, see `json`.
        query: its parameters, see `parameter`.
    """
    content: Json = {"schema": reply}
    if example is not None:
        content["example"] = example
    if "401" in statuses:  # a key has rights, and a rate
        statuses += ("429",)
    out: Json = {
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": content}},
            **{status: STATUSES[status] for status in statuses},
        }
    }
    if body is not None:
        out["requestBody"] = {"required": True, "content": body}
    if query:
        out["parameters"] = query
    return out


def json(schema: Json, **examples: Any) -> Json:
    """A JSON body with named examples."""
    named = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": {"schema": schema, "examples": named}}


def link(description: str, path: str, method: str, parameters: Json | None = None, body: Any = None) -> Json:
    """What can be done next with an answer; values are runtime expressions.

    Args:
        description: why one would.
        path: of the other operation, as in the document.
        method: of it, in small letters.
        parameters: its parameters.
        body: its body.
    """
    out: Json = {"description": description, "operationRef": f"#/paths/{path.replace('/', '~1')}/{method}"}
    if parameters:
        out["parameters"] = parameters
    if body is not None:
        out["requestBody"] = body
    return out


def parameter(name: str, schema: Json, description: str, place: str = "query") -> Json:
    """A parameter in the query, the path or a header."""
    required = place == "path"
    return {"name": name, "in": place, "required": required, "schema": schema, "description": description}
