"""Load from a thread while a fault lasts: an open loop at a constant rate, or closed loops of labels."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from loadtests.client import Address, Client, post
from loadtests.driver import open_loop
from loadtests.faults.ledger import START_MS, Ledger

CANDIDATES: Final = 50
CONNECTIONS: Final = 64
TIMEOUT_S: Final = 5.0
"""After which the client gives up: far above every deadline of the service."""
RETRIED: Final = ("refused", "broken", "timed out", "429", "502", "503", "504")
RETRY_PAUSE_S: Final = 0.1
"""Before a retry, unless `Retry-After` is given."""
SENDER_PAUSE_S: Final = 0.05
"""Of a closed-loop sender after a bad answer."""
JOIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class FaultProfile:
    """How long and how much."""

    rate: float = 60  # requests a second, /label and /rerank in turn
    before_s: float = 1.0  # load before the fault
    fault_s: float = 4.0
    bad_clients_s: float = 40.0  # how long misbehaving clients go on
    quiet_s: float = 2.0  # without a bad answer: recovered
    limit_s: float = 20.0  # to wait for that
    bad_clients: int = 100  # at once
    repetitions: int = 10  # of what is quick
    kills: int = 10
    events: int = 100_000  # acknowledged at least in the durability drills
    hot_events: int = 20_000  # of one user


FULL: Final = FaultProfile()
FAST: Final = FaultProfile(50, 0.2, 0.5, 0.6, 0.3, 15.0, 20, 1, 3, 1_500, 2_000)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request, retries included; times by `time.monotonic`."""

    path: str
    sent_s: float
    took_s: float  # until the last byte, or until it was clear that no reply would come
    outcome: str  # the status, `200 degraded`, or without a reply `refused`, `broken` or `timed out`
    reply: dict[str, Any]  # of a 200
    tries: int = 1
    error: str = ""  # the beginning of another body

    @property
    def good(self) -> bool:
        """Whether it is a complete answer."""
        return self.outcome == "200"


@dataclass
class BackgroundLoad:
    """Sends from a thread of its own within a `with` block.

    A batch that is not acknowledged is sent again later with the same ids, in place of a new one, so the rate
    does not depend on the answers.
    """

    address: Address
    ledger: Ledger
    profile: FaultProfile
    headers: Mapping[str, str] = field(default_factory=dict)
    senders: int = 0  # so many closed loops of labels, instead of the open loop
    events: int = 3  # of one body
    retries: int = 0  # of a request that got no reply, or 429, 502, 503 or 504
    answers: list[Answer] = field(default_factory=list)
    fault_start_s: float = 0.0
    fault_end_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _errors: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> Self:
        # A daemon, because an interrupt may come while it starts, before there is a block to leave.
        self._thread = threading.Thread(target=self._main, name="load", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._stop.set()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join(JOIN_S)
        if self._errors and kind is None:
            raise self._errors[0]

    def during(self, fault: Callable[[], object], heal: Callable[[], object] = lambda: None) -> None:
        """Inject a fault, heal it, and wait for the recovery."""
        time.sleep(self.profile.before_s)
        self.fault_start_s = time.monotonic()
        fault()
        time.sleep(max(0.0, self.fault_start_s + self.profile.fault_s - time.monotonic()))
        heal()
        self.fault_end_s = time.monotonic()
        self.wait_until_recovered()

    def wait_until_recovered(self) -> None:
        """Wait until only good answers have come for `quiet_s`, or for `limit_s`."""
        limit = time.monotonic() + self.profile.limit_s
        while time.monotonic() < limit:
            since = time.monotonic() - self.profile.quiet_s
            recent = [a.good for a in list(self.answers) if a.sent_s + a.took_s > since]
            if since > self.fault_end_s and recent and all(recent):
                return
            time.sleep(0.02)

    def recovered_s(self) -> float | None:
        """Return the time from the end of the fault to the first of only good answers; `None` if never."""
        after = sorted((a for a in self.answers if a.sent_s >= self.fault_end_s), key=lambda a: a.sent_s)
        bad = [index for index, answer in enumerate(after) if not answer.good]
        good = after[bad[-1] + 1 :] if bad else after
        if not good:
            return None
        return good[0].sent_s - self.fault_end_s if bad else 0.0

    def acknowledges(self, since_s: float) -> bool:
        """Return whether a batch that was sent later has been labelled."""
        return any(a.good and a.path == "/label" and a.sent_s > since_s for a in list(self.answers))

    def outcomes(self) -> Counter[str]:
        """Return the number of answers by outcome."""
        return Counter(answer.outcome for answer in self.answers)

    def _main(self) -> None:
        try:
            asyncio.run(self._send_all())
        except BaseException as e:
            self._errors.append(e)

    async def _send_all(self) -> None:
        async with Client(self.address, CONNECTIONS, TIMEOUT_S) as client, asyncio.TaskGroup() as tasks:
            if not self.senders:
                await open_loop(
                    self._due(), lambda i, _: self._rerank(client, i) if i % 2 else self._label(client)
                )
            for _ in range(self.senders):
                tasks.create_task(self._closed_loop(client))

    def _due(self) -> Iterator[float]:
        for number in itertools.count():
            if self._stop.is_set():
                return
            yield number / self.profile.rate

    async def _closed_loop(self, client: Client) -> None:
        while not self._stop.is_set():
            if not (await self._label(client)).good:
                await asyncio.sleep(SENDER_PAUSE_S)

    async def _label(self, client: Client) -> Answer:
        pending = self.ledger.pending
        batch = pending.popleft() if pending else self.ledger.batch(self.events)
        answer = await self._post(client, "/label", batch)
        self.ledger.settle(batch, answer.reply)
        return answer

    async def _rerank(self, client: Client, number: int) -> Answer:
        slate = {
            "user_id": self.ledger.user(number),
            "timestamp_ms": START_MS + 86_400_000,
            "candidates": [{"video_id": f"v{i}", "duration_s": 20.0} for i in range(CANDIDATES)],
        }
        return await self._post(client, "/rerank", slate)

    async def _post(self, client: Client, path: str, body: object) -> Answer:
        headers = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        request = post(path, json.dumps(body).encode(), headers=headers)
        sent_s = time.monotonic()
        for tries in itertools.count(1):
            reply = await client.send(request)
            outcome = reply.error or str(reply.status)
            if outcome not in RETRIED or tries > self.retries:
                break
            await asyncio.sleep(float(reply.headers.get(b"retry-after", RETRY_PAUSE_S)))
        took_s = time.monotonic() - sent_s
        content = json.loads(reply.body) if outcome == "200" else {}
        if content.get("degraded"):
            outcome = "200 degraded"
        error = "" if content else reply.body[:300].decode(errors="replace")
        answer = Answer(path, sent_s, took_s, outcome, content, tries, error)
        self.answers.append(answer)
        return answer
