"""What schemathesis cannot know: how an NDJSON body is written, and which refusals no schema can foretell.

Each exception is as narrow as its reason: a service that failed otherwise would still be caught.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import schemathesis
from schemathesis import Case, HookContext, Response, SerializationContext

RULES_BEYOND_SCHEMA: Final = re.compile(
    r"must be 1 to 256 bytes, found"  # a schema counts characters
    r"|Expected `int.*got `float`"  # 25.0 is an integer to a schema
    r"|must not all be 0|their sum must be finite"  # of weights
    r"|the catalogue does not know"  # whether a duration may be left out
    r"|in the future|is it in seconds"  # of a time
    r"|already names an exposure of"  # what the store holds
    r"|must be of different names"  # of arms
    r"|which is no candidate|a position takes one"  # of pins
    r"|`weights` names|There is no signal"  # what the bundle has
    r"|names no `user` and no `session`"  # one of them, or a ranking of the same body
)

METARANK_FIELDS: Final = re.compile(
    r"fields|watch_time_s|duration_s|author_id|tag|tab|device|video_id|timestamp|profile"
)
"""Members that Metarank's `fields` become: what a value must be depends on the name beside it."""


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context: SerializationContext, value: Any) -> bytes:
    """One value a line; what is no list is one line."""
    values = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(line).encode() + b"\n" for line in values)


@schemathesis.hook
def filter_failure(_context: HookContext, failure: Any, case: Case[Any], response: Response) -> bool:
    """False for what is no fault of the service's."""
    match type(failure).__name__:
        case "RejectedPositiveData":
            return not _refused_for_a_reason(case, response)
        case "AcceptedNegativeData":
            return not _refused_event_by_event(case, response)
        case "ServerError":
            return not (response.status_code == 503 and _too_late(case, response))
    return True


def _refused_for_a_reason(case: Case[Any], response: Response) -> bool:
    problem = response.json()
    if case.path.endswith("/infer"):  # shapes, names and bytes that must fit each other
        return response.status_code == 400 and "error" in problem
    errors = problem.get("errors") or [{"msg": problem["detail"], "loc": ""}]
    metarank = case.path == "/feedback" or case.path.startswith("/rank/")
    return all(
        RULES_BEYOND_SCHEMA.search(error["msg"]) or (metarank and METARANK_FIELDS.search(error["loc"]))
        for error in errors
    )


def _refused_event_by_event(case: Case[Any], response: Response) -> bool:
    """A bad event among good ones is named in the answer, which is then a 200."""
    if case.path not in ("/label", "/feedback"):
        return False
    lines = [json.loads(line) for line in response.content.splitlines()]
    return any(line.get("rejected") or "code" in line for line in lines)


def _too_late(case: Case[Any], response: Response) -> bool:
    """Whether the caller gave a deadline that cannot be kept."""
    reason = response.json()["detail"]
    return "X-Deadline-Ms" in case.headers and (" ms" in reason or "deadline" in reason)
