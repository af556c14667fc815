"""Errors that this project raises on purpose.

* ReelrankError
  + BadInput
    - InvalidEvent
    - Invalid
    - NotJson
    - BadTensor
    - WrongContentType
    - BodyTooLarge
    - BodyTooSlow
    - NothingAccepted
  + Unauthorized
  + Forbidden
  + UnknownUser
  + UnknownModel
  + BundleError
    - BundleNotFound
    - CorruptBundle
    - ContractMismatch
    - SelfTestFailed
  + StoreUnavailable
  + NotReady
  + Overloaded
    - TooFast
  + DeadlineExceeded

No error here knows about HTTP or exit codes: `service/http/errors.py` holds the one table that turns a
class into a status, and `training/__main__.py` ends with code 2 on any of them.
The name of a class is public: `reelrank_refusals_total{reason}` is its snake case.
Every message says what is wrong, what was found and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ReelrankError(Exception):
    """Base class: catch this to catch everything this project raises on purpose."""


class BadInput(ReelrankError):
    """What the caller gave cannot be used: a file, an option, a request."""


class InvalidEvent(BadInput):
    """One event breaks a rule of the schema.

    Attributes:
        code: a word for machines, as in `rejected[].code` of POST /label.
        loc: which member, e.g. `duration_s`; empty when the event as a whole is meant.
    """

    def __init__(self, code: str, detail: str, *, loc: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.loc = loc


class Invalid(BadInput):
    """A member of a request breaks its rule.

    Attributes:
        loc: which one, e.g. `candidates[3].duration_s`; empty when the request as a whole is meant.
    """

    def __init__(self, detail: str, *, loc: str = "") -> None:
        super().__init__(detail)
        self.loc = loc


class NotJson(BadInput):
    """A body is not JSON, or not UTF-8."""


class BadTensor(BadInput):
    """A request of the Open Inference Protocol that its graph cannot take."""


class WrongContentType(BadInput):
    """A content type or encoding that the endpoint does not read."""


class BodyTooLarge(BadInput):
    """A body of more than `REELRANK_MAX_BODY_BYTES`."""


class BodyTooSlow(BadInput):
    """A body that has not arrived within `REELRANK_BODY_TIMEOUT_S`."""


class NothingAccepted(BadInput):
    """No event of a body was accepted.

    Attributes:
        rejected: the reason for each event: `service.wire.Rejected`.
    """

    def __init__(self, rejected: Sequence[Any]) -> None:
        super().__init__(f"None of the {len(rejected)} events was accepted.")
        self.rejected = rejected


class Unauthorized(ReelrankError):
    """No API key, or an unknown one."""


class Forbidden(ReelrankError):
    """An API key without the right that the endpoint requires."""


class UnknownUser(ReelrankError):
    """The service holds nothing on this user."""


class UnknownModel(ReelrankError):
    """No model of this name or version is loaded."""


class BundleError(ReelrankError):
    """A bundle on disk cannot be used. The service keeps the one it already has."""


class BundleNotFound(BundleError):
    """No such version, or a store without any."""


class CorruptBundle(BundleError):
    """A file of the bundle is missing, truncated, unreadable, or not the one its manifest names."""


class ContractMismatch(BundleError):
    """The manifest, a graph and this build disagree on a tensor or a column."""


class SelfTestFailed(BundleError):
    """The graphs load, but do not reproduce the golden rows they were shipped with."""


class StoreUnavailable(ReelrankError):
    """The store of user sequences did not answer in time, or did not do what it was asked.

    Attributes:
        reason: a word for metrics and for the circuit breaker: connection, timeout, loading (it reads its
            files), full (out of memory), disk, read_only, denied, unreadable, circuit_open, or other.
    """

    def __init__(self, detail: str = "", *, reason: str = "other") -> None:
        super().__init__(detail)
        self.reason = reason


class NotReady(ReelrankError):
    """No bundle is loaded yet, or the process is shutting down."""


class Overloaded(ReelrankError):
    """The capacity is used up. Nothing is queued: a late answer is worth less than a fast refusal.

    Attributes:
        reason: a word for metrics: what there is no room for.
        retry_after_s: when there will probably be room.
    """

    def __init__(self, detail: str = "", *, reason: str = "other", retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.retry_after_s = retry_after_s


class TooFast(Overloaded):
    """An API key is used more often than its rate allows."""


class DeadlineExceeded(ReelrankError):
    """The caller's time for this request has run out."""
