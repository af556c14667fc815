"""What was sent, what of it was acknowledged, and what of that the service holds afterwards."""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx2

USERS: Final = 40
EVENTS_PER_USER: Final = 30
"""Well below what the service keeps of a user; more events go to further users."""
RUN: Final = 5
"""Events in a row that are of one user."""
REPLAY: Final = 200
"""Events of one body when all is sent again."""
START_MS: Final = 1_651_330_969_569

TRIES: Final = 40
PAUSE_S: Final = 0.25
"""Before a check asks again."""

Event = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Count:
    """What became of the events.

    Attributes:
        sent: different ones.
        acknowledged: those that an answer named as labelled.
        lost: acknowledged, and not there as they were sent.
        doubled: there more than once after all were sent a second time, or then accepted as if new.
    """

    sent: int
    acknowledged: int
    lost: int
    doubled: int


@dataclass
class Ledger:
    """Makes events that differ and remembers their fate. Names of users and events begin with `name`."""

    name: str
    pending: deque[list[Event]] = field(default_factory=deque)
    """Batches that were sent and not acknowledged: they may be there or not, and are to be sent again."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _sent: dict[str, Event] = field(default_factory=dict)
    _acknowledged: set[str] = field(default_factory=set)

    @property
    def acknowledged(self) -> int:
        """Events so far."""
        return len(self._acknowledged)

    def batch(self, size: int) -> list[Event]:
        """New events."""
        events = [self._event(number) for number in itertools.islice(self._numbers, size)]
        self._sent.update((event["event_id"], event) for event in events)
        return events

    def user(self, number: int) -> str:
        """One of the first users."""
        return f"{self.name}-0-{number % USERS}"

    def settle(self, events: list[Event], reply: dict[str, Any]) -> None:
        """Note an answer to a batch; without a reply, or with some events unnamed, it is pending."""
        named = {label["event_id"] for label in reply.get("labels", ())}
        self._acknowledged |= named
        if missing := [event for event in events if event["event_id"] not in named]:
            self.pending.append(missing)

    def forget(self) -> None:
        """Whatever was acknowledged until now need not be there: the store was emptied on purpose."""
        for event_id in self._acknowledged:
            del self._sent[event_id]
        self._acknowledged.clear()

    def check(self, http: httpx2.Client) -> Count:
        """Ask the service for every user, send all again, and ask again.

        Args:
            http: to the service, healthy by now.
        """
        self._send(http, list(itertools.chain.from_iterable(self.pending)))
        self.pending.clear()
        held = self._held(http)
        lost = {event_id for event_id in self._acknowledged if self._sent[event_id] not in held[event_id]}
        anew = self._send(http, list(self._sent.values()))
        held = self._held(http)
        doubled = {event_id for event_id, events in held.items() if len(events) > 1}
        doubled |= anew - lost
        return Count(len(self._sent), len(self._acknowledged), len(lost), len(doubled))

    def _event(self, number: int) -> Event:
        block, place = divmod(number, USERS * EVENTS_PER_USER)
        return {
            "event_id": f"{self.name}-{number}",
            "user_id": f"{self.name}-{block}-{place // RUN % USERS}",
            "video_id": f"v{number % 1000}",
            "timestamp_ms": START_MS + number,
            "watch_time_s": number % 60 + 0.5,
            "duration_s": 30.0,
        }

    def _send(self, http: httpx2.Client, events: list[Event]) -> set[str]:
        """Send events until they are acknowledged. Returns those that were new to the service."""
        anew = set()
        for batch in _pages(events, REPLAY):
            labels = _patiently(http, "POST", "/label", json=batch).json()["labels"]
            self._acknowledged |= {label["event_id"] for label in labels}
            anew |= {label["event_id"] for label in labels if not label["duplicate"]}
        return anew

    def _held(self, http: httpx2.Client) -> dict[str, list[Event]]:
        """Every event that the service holds on any of our users, by id, as often as it is there."""
        held: dict[str, list[Event]] = {event_id: [] for event_id in self._sent}
        members = ("event_id", "user_id", "video_id", "timestamp_ms", "watch_time_s", "duration_s")
        for user_id in Counter(event["user_id"] for event in self._sent.values()):
            reply = _patiently(http, "GET", f"/users/{quote(user_id, safe='')}/sequence")
            for event in reply.json()["events"] if reply.status_code == 200 else ():
                held.setdefault(event["event_id"], []).append({name: event[name] for name in members})
        return held


def _patiently(http: httpx2.Client, method: str, path: str, **options: Any) -> httpx2.Response:
    """Ask again when the service says so: a check must not fail because the machine is busy.

    Raises:
        httpx2.HTTPStatusError: it goes on saying so, or says something else than 200 or 404.
    """
    for _ in range(TRIES):
        reply = http.request(method, path, **options)
        if reply.status_code not in (429, 503):
            break
        time.sleep(PAUSE_S)
    return reply if reply.status_code == 404 else reply.raise_for_status()


def _pages(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))
