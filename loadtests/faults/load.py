"""Load while something breaks: requests at a constant rate, or as fast as they are answered."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from loadtests.faults.client import Answer, Client
from loadtests.faults.ledger import START_MS, Ledger

CANDIDATES: Final = 50
EVENTS: Final = 3
"""Of one body, at a constant rate."""
JOIN_S: Final = 30.0
PAUSE_S: Final = 0.05
"""After an answer that was not good, before the same sender goes on."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how much.

    Attributes:
        rate: requests a second; every second one is a /label, the others are /rerank.
        before_s: load before the fault.
        fault_s: how long a fault lasts.
        hold_s: how long misbehaving clients hold on.
        quiet_s: without a bad answer, it counts as recovered.
        limit_s: the longest to wait for that.
        crowd: misbehaving clients at once.
        times: repetitions of what is quick.
        kills, events: of the durability runs; events is how many are acknowledged at least.
    """

    rate: float
    before_s: float
    fault_s: float
    hold_s: float
    quiet_s: float
    limit_s: float
    crowd: int
    times: int
    kills: int
    events: int


FULL: Final = Pace(60, 1.0, 4.0, 40.0, 2.0, 20.0, 100, 10, 10, 100_000)
FAST: Final = Pace(50, 0.2, 0.5, 0.6, 0.3, 15.0, 20, 1, 3, 1_500)


@dataclass
class Load:
    """Sends from a thread of its own until the end of the `with` block.

    What is not acknowledged is sent again later, by the same ids, in place of something new: so the rate is
    constant, whatever the service does.

    Attributes:
        answers: what came of every request so far.
        began_s, ended_s: of the fault, by `time.monotonic`, once it was told.
    """

    url: str
    headers: dict[str, str]
    ledger: Ledger
    pace: Pace
    senders: int = 0
    """So many send labels of `events` events without a pause, instead of the rate."""
    events: int = EVENTS
    retries: int = 0
    """Of the client, see there."""
    answers: list[Answer] = field(default_factory=list)
    began_s: float = 0.0
    ended_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _failed: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> Self:
        # A daemon, because an interrupt can come while it starts, before there is a block to leave.
        self._thread = threading.Thread(target=self._main, name="load", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._stop.set()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(JOIN_S)
        if self._failed and error is None:
            raise self._failed[0]

    def during(self, fault: Callable[[], object], heal: Callable[[], object] = lambda: None) -> None:
        """The fault, between a while of peace and the return to it."""
        time.sleep(self.pace.before_s)
        self.began_s = time.monotonic()
        fault()
        time.sleep(max(0.0, self.began_s + self.pace.fault_s - time.monotonic()))
        heal()
        self.ended_s = time.monotonic()
        self.until_quiet()

    def until_quiet(self) -> None:
        """Wait until good answers and no others have come for a while, or the limit."""
        limit = time.monotonic() + self.pace.limit_s
        while time.monotonic() < limit:
            since = time.monotonic() - self.pace.quiet_s
            recent = [a.good for a in list(self.answers) if a.sent_s + a.took_s > since]
            if since > self.ended_s and recent and all(recent):
                return
            time.sleep(0.02)

    def recovered_s(self) -> float | None:
        """From the end of the fault until every request was answered well. `None` if that did not come."""
        after = sorted((a for a in self.answers if a.sent_s >= self.ended_s), key=lambda a: a.sent_s)
        bad = [index for index, answer in enumerate(after) if not answer.good]
        good = after[bad[-1] + 1 :] if bad else after
        if not good:
            return None
        return good[0].sent_s - self.ended_s if bad else 0.0

    def _main(self) -> None:
        try:
            asyncio.run(self._send_all())
        except BaseException as e:
            self._failed.append(e)

    async def _send_all(self) -> None:
        async with Client(self.url, self.headers, self.retries) as client, asyncio.TaskGroup() as tasks:
            if self.senders:
                for _ in range(self.senders):
                    tasks.create_task(self._flat_out(client))
                return
            start = time.monotonic()
            for number in itertools.count():
                await asyncio.sleep(start + number / self.pace.rate - time.monotonic())
                if self._stop.is_set():
                    return
                tasks.create_task(self._rerank(client, number) if number % 2 else self._label(client))

    async def _flat_out(self, client: Client) -> None:
        while not self._stop.is_set():
            if not (await self._label(client)).good:
                await asyncio.sleep(PAUSE_S)

    async def _label(self, client: Client) -> Answer:
        pending = self.ledger.pending
        batch = pending.popleft() if pending else self.ledger.batch(self.events)
        answer = await self._noted(client.post("/label", batch))
        self.ledger.settle(batch, answer.reply)
        return answer

    async def _rerank(self, client: Client, number: int) -> Answer:
        slate = {
            "user_id": self.ledger.user(number),
            "timestamp_ms": START_MS + 86_400_000,
            "candidates": [{"video_id": f"v{i}", "duration_s": 20.0} for i in range(CANDIDATES)],
        }
        return await self._noted(client.post("/rerank", slate))

    async def _noted(self, request: Coroutine[Any, Any, Answer]) -> Answer:
        answer = await request
        self.answers.append(answer)
        return answer
