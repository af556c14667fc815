"""Errors of the clients.

* ReelrankError
  + ServiceError      the service answered with a problem document
    - Refused         4xx: sending it again gives the same result
    - Busy            429, 502, 503, 504: nothing was done, or it is safe to repeat
    - Faulty          any other status: a fault of the service, or something else listens at this address
  + Unreachable       no reply came in time, or none at all
  + StreamCut         a stream of labels ended before its summary
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from models.errors import ReelrankError
from service.wire import Problem

LATER: Final = (429, 502, 503, 504)

_problem: Final = msgspec.json.Decoder(Problem)


class ServiceError(ReelrankError):
    """The service answered with an error.

    Attributes:
        problem: the problem document; made from the status and the first bytes of any other body.
        retry_after_s: `Retry-After`, s, or `None`.
        request_id: `X-Request-Id` of the answer, which is in the service's log.
    """

    def __init__(self, problem: Problem, *, retry_after_s: float | None = None, request_id: str = "") -> None:
        located = "".join(f" [{e.get('loc')}: {e.get('msg')}]" for e in problem.errors[:1])
        super().__init__(f"The service answers {problem.status} {problem.title}: {problem.detail}{located}")
        self.problem = problem
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class Refused(ServiceError):
    """4xx: the request is wrong, or this key may not send it. Sending it again gives the same result."""


class Busy(ServiceError):
    """429, 502, 503, 504: a later try may succeed."""


class Faulty(ServiceError):
    """A status that the service never answers on purpose."""


class Unreachable(ReelrankError):
    """No reply came.

    Attributes:
        sent: whether the request may have reached the service.
    """

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.sent = sent


class StreamCut(ReelrankError):
    """A stream ended before its summary. What was answered is stored; send the rest again.

    Attributes:
        answered: answers that arrived.
        problem: the problem document that ended the stream, if one did.
    """

    def __init__(self, detail: str, *, answered: int, problem: Problem | None = None) -> None:
        super().__init__(f"{detail} {answered} lines were answered; send the events after those again.")
        self.answered = answered
        self.problem = problem


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ServiceError:
    """Return the error of a reply that is not 200.

    Args:
        status: of the reply.
        headers: names in lower case, or a case-insensitive mapping.
        content: the whole body.
    """
    kind = Busy if status in LATER else Refused if 400 <= status < 500 else Faulty
    return kind(
        problem_of(status, content),
        retry_after_s=_seconds(headers.get("retry-after")),
        request_id=headers.get("x-request-id", ""),
    )


def problem_of(status: int, content: bytes) -> Problem:
    """Return the problem document in a body, or one made for any other body, such as a proxy's page."""
    try:
        return _problem.decode(content)
    except ValueError:
        try:
            title = HTTPStatus(status).phrase
        except ValueError:
            title = "unknown status"
        detail = content[:200].decode("utf-8", "replace").strip() or "an empty body"
        return Problem(type="about:blank", title=title, status=status, detail=detail)


def _seconds(text: str | None) -> float | None:
    """Return `Retry-After` in seconds. A date, which only some proxies write, is ignored."""
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None
