"""The one table that turns an error into a status, and the one writer of problem documents (RFC 9457)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from models import errors
from service.telemetry.trace import Trace, current_trace
from service.wire import Problem, Rejected, sendable

PROBLEM_JSON: Final = "application/problem+json"
RETRY_AFTER_S: Final = "1"

STATUS: Final[dict[type[errors.ReelrankError], HTTPStatus]] = {
    errors.NotJson: HTTPStatus.BAD_REQUEST,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.UnknownUser: HTTPStatus.NOT_FOUND,
    errors.UnknownModel: HTTPStatus.NOT_FOUND,
    errors.BadTensor: HTTPStatus.BAD_REQUEST,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.BodyTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    errors.WrongContentType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.BadInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BundleNotFound: HTTPStatus.NOT_FOUND,
    errors.BundleError: HTTPStatus.CONFLICT,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceeded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ReelrankError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

HEADERS: Final[dict[HTTPStatus, dict[str, str]]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    # The rest of the body is not read, so the connection cannot be used again.
    HTTPStatus.REQUEST_TIMEOUT: {"Connection": "close"},
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {"Connection": "close"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": RETRY_AFTER_S},
}

STORED: Final = ("conflict", "unreadable")
"""Codes of rejected events that are at odds with what is stored."""


_FOLDERS: Final = re.compile(r"(?<![\w.:/])(?<!GET )(?<!POST )/(?:[^\s/]+/)*")
"""The folders of an absolute path; the paths of our own surface stand behind their methods."""


def status_of(error: errors.ReelrankError) -> HTTPStatus:
    """Return the status of the nearest class in the error's own tree."""
    if isinstance(error, errors.NothingAccepted) and all(r.code in STORED for r in error.rejected):
        return HTTPStatus.CONFLICT
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def reason_of(error: errors.ReelrankError) -> str:
    """Return the error's class as a word for metrics and logs, e.g. `store_unavailable`.

    For `Overloaded` it is what there was no room for.
    """
    return error.reason if isinstance(error, errors.Overloaded) else _snake(type(error).__name__)


@cache
def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def note(error: errors.ReelrankError, trace: Trace) -> None:
    """Note in the trace, for metrics and the log, why a request was refused."""
    trace.reason = reason_of(error)
    if public_detail(error) != str(error):
        trace.detail = str(error)


def public_detail(error: errors.ReelrankError) -> str:
    """Return what a caller learns of an error: nothing of hosts, folders and scripts."""
    if isinstance(error, errors.StoreUnavailable):
        return (
            f"The store cannot do this now ({error.reason}). What was not acknowledged may be stored or not; "
            "sending it again is safe. The log has the details under this X-Request-Id."
        )
    if isinstance(error, errors.BundleError) or type(error) is errors.BadInput:
        return without_folders(str(error))
    return str(error)


def without_folders(text: str) -> str:
    """Return a text with the names of files only, where it has their absolute paths."""
    return _FOLDERS.sub("", text)


def document_of(error: errors.ReelrankError) -> Problem:
    """Return the problem document of an error."""
    status = status_of(error)
    located: list[dict[str, str]] = []
    rejected: list[Rejected] = []
    if isinstance(error, errors.NothingAccepted):
        rejected = list(error.rejected)
        located = [
            {"loc": f"events[{r.index}]" + (f".{r.loc}" if r.loc else ""), "msg": r.detail} for r in rejected
        ]
    elif isinstance(error, errors.Invalid):
        located = [{"loc": sendable(error.loc), "msg": sendable(str(error))}]
    return _problem(status, public_detail(error), errors=located, rejected=rejected)


def response_of(error: errors.ReelrankError) -> Response:
    """Return the whole response to an error."""
    return _response(document_of(error), _headers(error))


def _headers(error: errors.ReelrankError) -> Mapping[str, str] | None:
    headers = HEADERS.get(status_of(error))
    if isinstance(error, errors.Overloaded):
        headers = {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    return headers


def problem_response(request: Request, error: Exception) -> Response:
    """Return the response to any exception, and note its reason in the trace."""
    trace = current_trace()
    match error:
        case errors.ReelrankError() if not is_fault(error):
            note(error, trace)
            return _response(_with_error_member(request, document_of(error)), _headers(error))
        case HTTPException():
            status = HTTPStatus(error.status_code)
            detail: str = {
                HTTPStatus.NOT_FOUND: "There is nothing at this path; GET /docs lists what there is.",
                HTTPStatus.METHOD_NOT_ALLOWED: f"This path does not take {request.method}.",
            }.get(status, error.detail)
            trace.reason = status.name.lower()
            headers = _allow(request) if status is HTTPStatus.METHOD_NOT_ALLOWED else None
            return _response(_with_error_member(request, _problem(status, detail)), headers or error.headers)
        case ClientDisconnect():
            # No client will read it. But one that hangs up is no fault of ours: not a 500, not a traceback.
            trace.reason = "client_disconnected"
            return _response(
                _problem(HTTPStatus.BAD_REQUEST, "The connection ended before the body did."), None
            )
    trace.reason = "fault"
    detail = "The service has a fault; its log has the details under this X-Request-Id."
    return _response(_with_error_member(request, _problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail)), None)


def is_fault(error: Exception) -> bool:
    """Return whether this is a fault of the service: answered with 500 and logged with its traceback."""
    if isinstance(error, errors.ReelrankError):  # a class without a status of its own is
        return status_of(error) is HTTPStatus.INTERNAL_SERVER_ERROR
    return not isinstance(error, HTTPException | ClientDisconnect)


def install(app: FastAPI) -> None:
    """Make every error of the app, the framework's own too, a problem document."""

    async def handle(request: Request, error: Exception) -> Response:
        if is_fault(error):
            raise error  # to the outermost handler, which is the next
        return problem_response(request, error)

    async def handle_fault(request: Request, error: Exception) -> Response:
        return problem_response(request, error)

    for kind in (errors.ReelrankError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(Exception, handle_fault)


def _allow(request: Request) -> dict[str, str] | None:
    """Return all documented methods of the path; the framework names those of its first route alone."""
    path = getattr(request.scope.get("route"), "path", None)
    methods = request.app.openapi()["paths"].get(path)
    return methods and {"Allow": ", ".join(sorted(method.upper() for method in methods))}


def _with_error_member(request: Request, problem: Problem) -> Problem:
    """Clients of the Open Inference Protocol look for `error`, whatever else there is."""
    if not request.url.path.startswith("/v2"):
        return problem
    return msgspec.structs.replace(problem, error=problem.detail)


def _response(problem: Problem, headers: Mapping[str, str] | None) -> Response:
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=dict(headers) if headers else None,
    )


def _problem(status: HTTPStatus, detail: str, **more: Any) -> Problem:
    return Problem(type="about:blank", title=status.phrase, status=status, detail=sendable(detail), **more)
