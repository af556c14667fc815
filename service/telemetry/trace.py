"""The stage times of one request."""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter
from typing import Final

STAGES: Final = ("wait", "parse", "state", "inference", "encode", "rest")
"""From the first byte until the event loop comes to the request · reading and decoding the body · the store ·
the graphs and what feeds them · making the answer's bytes · what is in none of these, until the answer's head
is sent."""

_SERVER_TIMING: Final = ", ".join(f"{stage};dur=%.3f" for stage in (*STAGES, "total"))


class Trace:
    """The stage times of one request, in seconds. Stages follow each other, from the request's first byte: a
    mark ends the one before.

    Args:
        request_id: the caller's, or a new one.
        started: when the first byte was read, by `time.perf_counter()`; now, if left out.

    Attributes:
        request_id: the caller's, or a new one.
        stages: seconds by stage, in the order they came; a stage that the request did not have is missing.
        version: of the bundle that answered, if one did.
        streamed: its body and its answer flow at the pace of the client.
        caller: number of the API key, from 1; 0 where there are not several.
        reason: of the problem document that the request, or its stream, ended in: a word for machines.
        detail: why, where the problem document does not say it: hosts and folders are for the log.
    """

    __slots__ = (
        "_last",
        "caller",
        "detail",
        "reason",
        "request_id",
        "stages",
        "started",
        "streamed",
        "version",
    )

    def __init__(self, request_id: str, started: float | None = None) -> None:
        self.request_id = request_id
        self.started = self._last = perf_counter() if started is None else started
        self.stages: dict[str, float] = {}
        self.version: str | None = None
        self.caller = 0
        self.reason: str | None = None
        self.detail: str | None = None
        self.streamed = False

    def mark(self, stage: str) -> None:
        """Add the time since the last mark to `stage`."""
        now = perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now

    def elapsed_s(self) -> float:
        """Return the seconds since the request's first byte was read."""
        return perf_counter() - self.started

    def took_ms(self) -> float:
        """For `took_ms` of a reply."""
        return round(self.elapsed_s() * 1e3, 3)

    def server_timing(self) -> bytes:
        """Return the `Server-Timing` header, in milliseconds: the stages, and as `total` their sum."""
        stages_ms = [round(self.stages.get(stage, 0.0) * 1e3, 3) for stage in STAGES]
        return (_SERVER_TIMING % (*stages_ms, sum(stages_ms))).encode()


_current: Final[ContextVar[Trace]] = ContextVar("reelrank.trace")


def current_trace() -> Trace:
    """Return the trace of the request that is being answered; outside of one, a trace that is not kept."""
    return _current.get(None) or Trace("")


def set_current_trace(trace: Trace) -> None:
    """Make this the trace of the running task, and of the tasks that it starts."""
    _current.set(trace)
