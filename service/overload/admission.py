"""Which requests a process takes on: those that it can answer in time. Others are refused at once.

Work is counted by what it costs, not by requests: candidates of slates, events of labels. Each kind has a
budget of its own, so that a flood of the one leaves room for the other.
"""

from __future__ import annotations

import math
from typing import Final

from service.overload.budget import DEADLINE_SHARE, Budget
from service.overload.event_loop_lag import INTERVAL_S
from service.overload.service_time import ServiceTime
from service.settings import Settings

SLATE_COST: Final = 100
"""What a slate costs besides its candidates, in candidates: reading the request, the user's history and its
features take about as long as ranking a hundred."""

LABEL_COST: Final = 20
"""What a request for labels costs besides its events, in events."""

CANDIDATE_S: Final = 10e-6
"""Seconds a candidate, until the first slates are measured."""
EVENT_S: Final = 50e-6
"""Seconds an event, until the first are measured."""

CANDIDATES_FLOOR: Final = 2_400
"""Eight slates of 200: fewer would leave the machine idle between them."""
EVENTS_FLOOR: Final = 960
"""Eight bodies of 100."""

SLATES_SEEN_S: Final = 1.0
"""For so long after a slate, labels leave time for the next one."""


class Admission:
    """The budgets of one process.

    Args:
        settings: the limits and deadlines.
    """

    def __init__(self, settings: Settings) -> None:
        self._slate_s = settings.deadline_ms / 1e3
        label_s = settings.label_deadline_ms / 1e3
        slates = ServiceTime(CANDIDATE_S, self._slate_s * DEADLINE_SHARE / CANDIDATES_FLOOR)
        labels = ServiceTime(EVENT_S, label_s * DEADLINE_SHARE / EVENTS_FLOOR)
        self._service_times = slates, labels
        events, setting = settings.max_inflight_events, "REELRANK_MAX_INFLIGHT_EVENTS"
        self.candidates = Budget(
            settings.max_inflight_candidates,
            "candidates",
            "REELRANK_MAX_INFLIGHT_CANDIDATES",
            request_cost=SLATE_COST,
            floor=CANDIDATES_FLOOR,
            service_time=slates,
        )
        self.events = Budget(
            max(1, events // 2),
            "events",
            f"half of {setting}",
            request_cost=LABEL_COST,
            floor=EVENTS_FLOOR,
            service_time=labels,
        )
        self.streamed = Budget(max(1, events - events // 2), "streamed_events", f"half of {setting}")
        """For NDJSON streams, which wait for it. With one budget for both, the waiting side would always
        lose."""
        self.streams = Budget(settings.max_streams, "streams", "REELRANK_MAX_STREAMS")
        self.bodies = Budget(
            settings.max_inflight_body_bytes, "body_bytes", "REELRANK_MAX_INFLIGHT_BODY_BYTES"
        )
        self._candidates = 0
        self._without_slates_s = math.inf

    def tick(self, lag_s: float) -> None:
        """Measure what work takes, at each tick of the event loop.

        Labels have longer than slates and share the loop with them. While there are slates, labels in flight
        are held to what is done within a slate's deadline.

        Args:
            lag_s: by which the tick is late, in seconds.
        """
        for service_time in self._service_times:
            service_time.tick(lag_s)
        if self.candidates.finished > self._candidates:
            self._candidates, self._without_slates_s = self.candidates.finished, 0.0
        self._without_slates_s += INTERVAL_S + lag_s
        slates_seen = self._without_slates_s < SLATES_SEEN_S
        self.events.longest_wait_s = self._slate_s if slates_seen else math.inf

    def budgets(self) -> tuple[Budget, ...]:
        """Return all budgets, for the gauges."""
        return (self.candidates, self.events, self.streamed, self.streams, self.bodies)
