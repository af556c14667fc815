"""Sending one request and noting what came of it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Final, Self

import httpx2

TIMEOUT_S: Final = 5.0
"""After which a client gives up: far above every deadline of the service."""

CONNECTIONS: Final = 64

AGAIN: Final = ("refused", "broken", "timed out", "429", "502", "503", "504")
"""Outcomes after which a client that retries sends the same once more."""
PAUSE_S: Final = 0.1
"""Before it does, unless `Retry-After` says how long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request.

    Attributes:
        path: of the request.
        sent_s: when, by `time.monotonic`.
        took_s: until the whole answer was there, or until it was clear that none would come.
        outcome: the status; `200 degraded` for a slate that says so; without an answer `refused` (nobody
            listens), `broken` (the connection ended) or `timed out`.
        reply: the body, decoded, of a 200.
        tries: how often it was sent.
        said: the body of another status, its beginning.
    """

    path: str
    sent_s: float
    took_s: float
    outcome: str
    reply: dict[str, Any]
    tries: int = 1
    said: str = ""

    @property
    def good(self) -> bool:
        return self.outcome == "200"


class Client:
    """Kept connections to the service; as an async context manager.

    Args:
        url: of the service.
        headers: of every request.
        retries: how often a request is sent again that got no answer, or 429, 502, 503 or 504.
    """

    def __init__(self, url: str, headers: dict[str, str], retries: int = 0) -> None:
        self._retries = retries
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=TIMEOUT_S,
            limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: object) -> Answer:
        """Send JSON. Never raises for what the other side does."""
        sent_s = time.monotonic()
        for tries in range(1, self._retries + 2):
            outcome, reply, said, pause_s = await self._once(path, body)
            if outcome not in AGAIN or tries > self._retries:
                break
            await asyncio.sleep(pause_s)
        return Answer(path, sent_s, time.monotonic() - sent_s, outcome, reply, tries, said)

    async def _once(self, path: str, body: object) -> tuple[str, dict[str, Any], str, float]:
        reply: dict[str, Any] = {}
        said, pause_s = "", PAUSE_S
        try:
            answer = await self._http.post(path, json=body)
        except httpx2.ConnectError:
            outcome = "refused"
        except httpx2.TimeoutException:
            outcome = "timed out"
        except httpx2.TransportError:
            outcome = "broken"
        else:
            outcome = str(answer.status_code)
            pause_s = float(answer.headers.get("Retry-After", PAUSE_S))
            if answer.status_code == 200:
                reply = json.loads(answer.content)
                outcome += " degraded" if reply.get("degraded") else ""
            else:
                said = answer.text[:300]
        return outcome, reply, said, pause_s
