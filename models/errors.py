"""Errors that this project raises on purpose.

* ReelrankError
  + BadInput
    - InvalidEvent
  + BundleError
    - BundleNotFound
    - CorruptBundle
    - ContractMismatch
    - SelfTestFailed
  + StoreUnavailable
  + NotReady
  + Overloaded
  + DeadlineExceeded

No error here knows about HTTP or exit codes: `service/http/errors.py` holds the one table that turns a
class into a status, and `training/__main__.py` ends with code 2 on any of them.
Every message says what is wrong, what was found and what to do next.
"""

from __future__ import annotations


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
    """Every place is taken. Nothing is queued: a late answer is worth less than a fast refusal.

    Attributes:
        reason: a word for metrics: what there is no room for.
        retry_after_s: when there will probably be room.
    """

    def __init__(self, detail: str = "", *, reason: str = "other", retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ReelrankError):
    """The caller's time for this request has run out."""
