"""The traffic of `python -m loadtests.load` for Locust, whose users wait for a reply before the next request.

    pip install locust
    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --headless -u 20 -r 20 -t 30s

against a running `make serve`, from the root of a checkout. It is a closed loop: latencies do not count the
wait of requests that were due while the service stalled.
"""

from __future__ import annotations

import os
from itertools import cycle
from typing import ClassVar

from locust import FastHttpUser, constant_throughput, task

from loadtests.traffic import Traffic

SLATES = 500
EVENTS = 20_000
"""Each is sent once, as long as they last; then they are duplicates."""

_traffic = Traffic(seed=os.getpid(), users=200, videos=[str(video) for video in range(7_000)])


def _bodies(requests: list[bytes]) -> cycle[bytes]:
    return cycle([request.partition(b"\r\n\r\n")[2] for request in requests])


class Feed(FastHttpUser):
    """Nine slates of 200 candidates to one event, ten requests a second."""

    wait_time = constant_throughput(10)
    headers: ClassVar = {"Content-Type": "application/json"}
    slates: ClassVar = _bodies(_traffic.slates(SLATES, 200))
    events: ClassVar = _bodies(_traffic.feedback(EVENTS))

    @task(9)
    def rerank(self) -> None:
        """Request a slate."""
        self.client.post("/rerank", data=next(self.slates), headers=self.headers)

    @task(1)
    def label(self) -> None:
        """Report an event."""
        self.client.post("/label", data=next(self.events), headers=self.headers)
