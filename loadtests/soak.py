"""`python -m loadtests.soak`: constant load for a long time, and whether memory or answers creep.

First the service is asked as fast as it answers, for a few seconds: that is its capacity, with this client on
the same machine. Then it gets a share of it at a constant rate, until the time is over. Users are a fixed
crowd, so what the service holds on them stops growing; events are new ones for ever.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from loadtests.faults.client import Answer, Client
from loadtests.machine import children, rss_mib, stamp
from loadtests.program import Program, ProgramFailed, version_folder
from models.errors import ReelrankError

NOW_MS: Final = 1_651_330_969_569
USERS: Final = 200
CANDIDATES: Final = 200
SENDERS: Final = 8
CALIBRATION_S: Final = 5.0
SAMPLE_S: Final = 1.0
"""Between two looks at the memory, at least; there are `SAMPLES` at most."""
SAMPLES: Final = 1000
WARM_UP: Final = 0.2
"""Of the time: until then caches and sequences fill, and no slope is drawn through it."""


@dataclass
class Course:
    """What was seen over time, in seconds from the start of the constant load."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    """When a /rerank was sent, and the milliseconds it took."""
    outcomes: dict[str, int] = field(default_factory=dict)
    memory: list[tuple[float, float, float]] = field(default_factory=list)
    """When, and MiB of the service and of its store."""

    def note(self, answer: Answer, start: float) -> None:
        """Count it."""
        self.outcomes[answer.outcome] = self.outcomes.get(answer.outcome, 0) + 1
        if answer.path == "/rerank" and answer.good:
            self.answers.append((answer.sent_s - start, answer.took_s * 1e3))

    def figures(self, seconds: float) -> dict[str, Any]:
        """Slopes and drifts of what came after the warm-up."""
        times, service, store = np.array(self.memory).T
        late = times >= WARM_UP * seconds
        halfway = (1 + WARM_UP) / 2 * seconds
        warm = [answer for answer in self.answers if answer[0] >= WARM_UP * seconds]
        early_ms, late_ms = (
            _median(took for sent, took in warm if (sent >= halfway) == second) for second in (False, True)
        )
        return {
            "answers": self.outcomes,
            "rss_mib": {"start": service[0], "end": service[-1]},
            "rss_slope_mib_per_h": slope_per_h(times[late], service[late]),
            "store_rss_slope_mib_per_h": slope_per_h(times[late], store[late]),
            "rerank_p50_ms": {"first_half": early_ms, "second_half": late_ms},
            "rerank_p50_drift": round(late_ms / early_ms - 1, 4),
        }


def main(
    minutes: Annotated[float, typer.Option(min=0.02, max=24 * 60, help="Of constant load.")] = 30.0,
    share: Annotated[float, typer.Option(min=0.01, max=1.0, help="Of the measured capacity.")] = 0.5,
    bundle: Annotated[
        Path | None, typer.Option(help="A folder of versions, or one; the released one if left out.")
    ] = None,
) -> None:
    """Load the service for a long time and print slopes as JSON. Loopback only, one worker, an own store."""
    try:
        with (
            tempfile.TemporaryDirectory() as data_dir,
            Program(version_folder(bundle), Path(data_dir)) as program,
        ):
            figures = asyncio.run(_soak(program, minutes * 60, share))
    except (ReelrankError, ProgramFailed) as e:
        print(f"soak: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    command = f"python -m loadtests.soak --minutes {minutes:g} --share {share:g}"
    print(json.dumps(stamp(command) | {"figures": figures}, indent=2))


async def _soak(program: Program, seconds: float, share: float) -> dict[str, Any]:
    numbers = itertools.count()
    async with Client(program.url, {}) as client:
        say(f"calibrating for {CALIBRATION_S:g} s")
        capacity = await _capacity(client, numbers)
        rate = share * capacity
        say(f"{capacity:.0f} requests/s; now {rate:.0f}/s for {seconds / 60:g} min")
        course = await _constant(client, program, numbers, rate, seconds)
    return {
        "capacity_requests_per_s": round(capacity, 1),
        "rate_requests_per_s": round(rate, 1),
        "seconds": seconds,
        "sent": sum(course.outcomes.values()),
    } | course.figures(seconds)


async def _capacity(client: Client, numbers: Iterator[int]) -> float:
    """Requests a second that are answered, when each sender waits for its answer before the next."""
    start = time.monotonic()
    answered = 0

    async def send() -> None:
        nonlocal answered
        while time.monotonic() < start + CALIBRATION_S:
            answered += (await request(client, next(numbers))).good

    await asyncio.gather(*(send() for _ in range(SENDERS)))
    return answered / (time.monotonic() - start)


async def _constant(
    client: Client, program: Program, numbers: Iterator[int], rate: float, seconds: float
) -> Course:
    """A request whenever one is due, whatever became of the ones before."""
    course = Course()
    start = time.monotonic()
    looks = (max(SAMPLE_S, seconds / SAMPLES) * n for n in itertools.count())
    look = next(looks)

    async def send(number: int) -> None:
        course.note(await request(client, number), start)

    async with asyncio.TaskGroup() as tasks:
        for due in itertools.count():
            at = due / rate
            if at > seconds:
                break
            await asyncio.sleep(start + at - time.monotonic())
            tasks.create_task(send(next(numbers)))
            if at >= look:
                course.memory.append((at, *_memory(program)))
                look = next(looks)
    course.memory.append((seconds, *_memory(program)))
    return course


async def request(client: Client, number: int) -> Answer:
    """Every second one is a slate, the others are feedback."""
    user = f"soak-{number % USERS}"
    if number % 2:
        candidates = [{"video_id": str((number + i) % 7000), "duration_s": 20.0} for i in range(CANDIDATES)]
        return await client.post(
            "/rerank", {"user_id": user, "timestamp_ms": NOW_MS + number, "candidates": candidates}
        )
    event = {
        "event_id": f"soak-{number}",
        "user_id": f"soak-{number % USERS + 1}",
        "video_id": str(number % 7000),
        "timestamp_ms": NOW_MS + number,
        "watch_time_s": number % 60 + 0.5,
        "duration_s": 30.0,
    }
    return await client.post("/label", event)


def _memory(program: Program) -> tuple[float, float]:
    """MiB of the service and of its store; not a number where they cannot be read."""
    stores = [pid for pid, called in children(program.pid).items() if "valkey" in called or "redis" in called]
    store = sum(rss_mib(pid) or 0.0 for pid in stores) or float("nan")
    return rss_mib(program.pid) or float("nan"), store


def slope_per_h(seconds: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> float | None:
    """The slope of the line through the points, least squares; `None` if none can be drawn."""
    if len(seconds) < 3 or not np.isfinite(values).all():
        return None
    return round(float(np.polyfit(seconds / 3600, values, 1)[0]), 2)


def _median(values: Iterator[float]) -> float:
    found = list(values)
    return round(statistics.median(found), 3) if found else float("nan")


def say(line: str) -> None:
    """For somebody who waits."""
    print(f"soak: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    typer.run(main)
