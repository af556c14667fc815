"""The log lines of requests: those that failed, those that were slow, and all of them if configured so."""

from __future__ import annotations

import logging
from typing import Any, Final, Literal

from service.telemetry.line_limiter import LineLimiter
from service.telemetry.trace import Trace

log = logging.getLogger("reelrank.requests")

Access = Literal["off", "errors", "all"]

Kind = Literal["request failed", "request was slow", "request was refused"]
SEVERITY: Final[dict[Kind, int]] = {
    "request failed": logging.ERROR,
    "request was slow": logging.WARNING,
    "request was refused": logging.INFO,
}


class RequestLog:
    """The log of requests: which of them get a line.

    Args:
        slow_ms: requests that take longer have one; streams have not, their time is their client's.
        access: whether refused requests have one, too, or all.
    """

    def __init__(self, slow_ms: float, access: Access) -> None:
        self._slow_s = slow_ms / 1e3
        self._access = access
        self._limiter = LineLimiter()

    def ended(self, method: str, route: str, status: int, trace: Trace) -> None:
        """Log a request that has been answered, if it is to have a line."""
        took_s = trace.elapsed_s()
        if status >= 500:
            kind: Kind = "request failed"
        elif took_s > self._slow_s and not trace.streamed:
            kind = "request was slow"
        elif (status >= 400 or trace.reason is not None) and self._access != "off":
            kind = "request was refused"
        else:
            if status < 400 and self._access == "all":
                log.info("request", extra=_fields(method, route, status, trace, took_s))
            return
        suppressed = self._limiter.take(kind)
        if suppressed is None:
            return
        fields = _fields(method, route, status, trace, took_s)
        if suppressed:
            fields["suppressed"] = suppressed
        log.log(SEVERITY[kind], kind, extra=fields)


def _fields(method: str, route: str, status: int, trace: Trace, took_s: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": trace.request_id,
        "method": method,
        "route": route,
        "status": int(status),
        "took_ms": round(took_s * 1e3, 3),
        "stages_ms": {stage: round(s * 1e3, 3) for stage, s in trace.stages.items()},
    }
    if trace.reason is not None:
        fields["reason"] = trace.reason
    if trace.detail is not None:
        fields["detail"] = trace.detail
    if trace.version is not None:
        fields["model_version"] = trace.version
    return fields
