"""The same traffic for people who know Locust; what our figures are made with is `python -m loadtests.load`.

    pip install locust
    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --headless -u 20 -r 20 -t 30s

against a running `make serve`. From the root of a checkout, where `loadtests` can be imported.

A Locust user waits for an answer before it asks again, so this is a closed loop: a service that stalls is
asked less while it stalls, and the percentiles that Locust prints leave out what users would have waited.
`constant_throughput` makes each of them ask at a rate, as long as the service keeps up. The time that Locust
takes itself is in its figures; on the machine that it loads, believe it from some milliseconds upwards.
"""

from __future__ import annotations

import os
from itertools import cycle
from typing import ClassVar

from locust import FastHttpUser, constant_throughput, task

from loadtests.load.traffic import Traffic

SLATES = 500
EVENTS = 20_000
"""Each is sent once, as far as they reach; then they are duplicates to the service."""

_traffic = Traffic(seed=os.getpid(), users=200, videos=[str(video) for video in range(7_000)])


def _bodies(requests: list[bytes]) -> cycle[bytes]:
    return cycle([request.partition(b"\r\n\r\n")[2] for request in requests])


class Feed(FastHttpUser):
    """Somebody who scrolls: nine slates of 200 candidates to one exposure, ten requests a second."""

    wait_time = constant_throughput(10)
    headers: ClassVar = {"Content-Type": "application/json"}
    slates: ClassVar = _bodies(_traffic.slates(SLATES, 200))
    events: ClassVar = _bodies(_traffic.feedback(EVENTS))

    @task(9)
    def rerank(self) -> None:
        """A slate of one of 200 users, by zeal."""
        self.client.post("/rerank", data=next(self.slates), headers=self.headers)

    @task(1)
    def label(self) -> None:
        """What one of them has watched."""
        self.client.post("/label", data=next(self.events), headers=self.headers)
