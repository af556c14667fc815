"""The client's ledger: which events were sent, which were acknowledged, and which the service stores."""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx2

USERS: Final = 40
EVENTS_PER_USER: Final = 30
"""Well below what the service keeps of a user; further events go to further users."""
RUN: Final = 5
"""Consecutive events of one user."""
REPLAY_BATCH: Final = 200
START_MS: Final = 1_651_330_969_569
TRIES: Final = 40
PAUSE_S: Final = 0.25
"""Between tries of a check."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Count:
    """What became of the events."""

    sent: int
    acknowledged: int  # listed as labelled in a reply
    losses: int  # acknowledged, and not stored as they were sent
    duplicates: int  # stored more than once after all were sent again, or then accepted as new


@dataclass
class Ledger:
    """Makes events that differ, and remembers their fate.

    Attributes:
        name: prefix of users and events.
        pending: batches that were sent and not acknowledged, to be sent again.
    """

    name: str
    pending: deque[list[Event]] = field(default_factory=deque)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _sent: dict[str, Event] = field(default_factory=dict)
    _acknowledged: set[str] = field(default_factory=set)

    @property
    def acknowledged(self) -> int:
        """Number of acknowledged events so far."""
        return len(self._acknowledged)

    def batch(self, size: int) -> list[Event]:
        """Return new events."""
        events = [self._event(number) for number in itertools.islice(self._numbers, size)]
        self._sent.update((event["event_id"], event) for event in events)
        return events

    def user(self, number: int) -> str:
        """Return one of the first users."""
        return f"{self.name}-0-{number % USERS}"

    def settle(self, events: list[Event], reply: dict[str, Any]) -> None:
        """Note the reply to a batch; what it does not list as labelled is pending."""
        labelled = {label["event_id"] for label in reply.get("labels", ())}
        self._acknowledged |= labelled
        if missing := [event for event in events if event["event_id"] not in labelled]:
            self.pending.append(missing)

    def forget(self) -> None:
        """Expect nothing of what was acknowledged so far: the store was emptied on purpose."""
        for event_id in self._acknowledged:
            del self._sent[event_id]
        self._acknowledged.clear()

    def check(self, http: httpx2.Client) -> Count:
        """Read every user from a healthy service, send all events again, and read again."""
        self._send(http, list(itertools.chain.from_iterable(self.pending)))
        self.pending.clear()
        stored = self._read(http)
        lost = {event_id for event_id in self._acknowledged if self._sent[event_id] not in stored[event_id]}
        accepted = self._send(http, list(self._sent.values()))
        stored = self._read(http)
        doubled = {event_id for event_id, events in stored.items() if len(events) > 1} | (accepted - lost)
        return Count(len(self._sent), len(self._acknowledged), len(lost), len(doubled))

    def _event(self, number: int) -> Event:
        block, offset = divmod(number, USERS * EVENTS_PER_USER)
        return {
            "event_id": f"{self.name}-{number}",
            "user_id": f"{self.name}-{block}-{offset // RUN % USERS}",
            "video_id": f"v{number % 1000}",
            "timestamp_ms": START_MS + number,
            "watch_time_s": number % 60 + 0.5,
            "duration_s": 30.0,
        }

    def _send(self, http: httpx2.Client, events: list[Event]) -> set[str]:
        """Send events until they are acknowledged; return the ids that were new to the service."""
        accepted = set()
        for start in range(0, len(events), REPLAY_BATCH):
            batch = events[start : start + REPLAY_BATCH]
            labels = _request(http, "POST", "/label", json=batch).json()["labels"]
            self._acknowledged |= {label["event_id"] for label in labels}
            accepted |= {label["event_id"] for label in labels if not label["duplicate"]}
        return accepted

    def _read(self, http: httpx2.Client) -> dict[str, list[Event]]:
        """Return every stored event of our users by id, as often as it is stored."""
        stored: dict[str, list[Event]] = {event_id: [] for event_id in self._sent}
        members = ("event_id", "user_id", "video_id", "timestamp_ms", "watch_time_s", "duration_s")
        for user_id in Counter(event["user_id"] for event in self._sent.values()):
            reply = _request(http, "GET", f"/users/{quote(user_id, safe='')}/sequence")
            for event in reply.json()["events"] if reply.status_code == 200 else ():
                stored.setdefault(event["event_id"], []).append({name: event[name] for name in members})
        return stored


def _request(http: httpx2.Client, method: str, path: str, **options: Any) -> httpx2.Response:
    """Send a request, again while it is refused: a check must not fail because the host is busy.

    Raises:
        httpx2.HTTPStatusError: it is still refused, or the status is neither 200 nor 404.
    """
    for _ in range(TRIES):
        reply = http.request(method, path, **options)
        if reply.status_code not in (429, 503):
            break
        time.sleep(PAUSE_S)
    return reply if reply.status_code == 404 else reply.raise_for_status()
