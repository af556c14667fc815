"""What may come instead of an answer.

* ReelrankError
  + ServiceError      the service answered with a problem document
    - Refused         4xx: the same again brings the same
    - Busy            429, 502, 503, 504: nothing was done, or it may be repeated; later it may go through
    - Faulty          any other status: a fault of the service, or something else answers at this address
  + Unreachable       no answer came in time, or none at all
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
    """The service answered, and not with what was asked for.

    Attributes:
        problem: its document; made up from the status and the first bytes if it was none.
        retry_after_s: seconds it asks to wait, or `None`.
        request_id: `X-Request-Id` of the answer, by which the service's log knows it.
    """

    def __init__(self, problem: Problem, *, retry_after_s: float | None = None, request_id: str = "") -> None:
        located = "".join(f" [{e.get('loc')}: {e.get('msg')}]" for e in problem.errors[:1])
        super().__init__(f"The service answers {problem.status} {problem.title}: {problem.detail}{located}")
        self.problem = problem
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class Refused(ServiceError):
    """4xx: what was sent is wrong, or this key may not send it. The same again brings the same."""


class Busy(ServiceError):
    """Not now: 429, 502, 503, 504."""


class Faulty(ServiceError):
    """A status that nothing of ours answers on purpose."""


class Unreachable(ReelrankError):
    """No answer.

    Attributes:
        sent: whether the request may have reached the service.
    """

    def __init__(self, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.sent = sent


class StreamCut(ReelrankError):
    """A stream ended before its summary. What was answered is stored; send the rest again.

    Attributes:
        answered: lines that came back.
        problem: the service's last word, if it had one.
    """

    def __init__(self, detail: str, *, answered: int, problem: Problem | None = None) -> None:
        super().__init__(f"{detail} {answered} lines were answered; send the events after those again.")
        self.answered = answered
        self.problem = problem


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ServiceError:
    """The error for an answer that is not 200.

    Args:
        status: of the answer.
        headers: names in lower case, or a mapping that does not care.
        content: the whole body.
    """
    kind = Busy if status in LATER else Refused if 400 <= status < 500 else Faulty
    return kind(
        problem_of(status, content),
        retry_after_s=_seconds(headers.get("retry-after")),
        request_id=headers.get("x-request-id", ""),
    )


def problem_of(status: int, content: bytes) -> Problem:
    """The document in a body, or one made up for a body that is none: a proxy's page, or nothing."""
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
    """`Retry-After` in seconds. A date, which only some proxies write, is not read."""
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None
