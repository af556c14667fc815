"""`python -m loadtests.soak`: constant load for a long time, and whether memory or answers creep.

First the service is asked as fast as it answers, for a few seconds: that is its capacity, with this client on
the same machine. Then it gets a share of it at a constant rate, until the time is over. Users are a fixed
crowd, so what the service holds on them stops growing; events are new ones for ever.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, overload

import numpy as np
import typer

from loadtests.load.closed_loop import saturate
from loadtests.load.connections import post
from loadtests.load.figures import figures
from loadtests.load.open_loop import Run, drive
from loadtests.machine import children, rss_mib, stamp
from loadtests.program import Program, ProgramFailed, version_folder
from models.arrays import F64
from models.errors import ReelrankError

NOW_MS: Final = 1_651_330_969_569
USERS: Final = 200
CANDIDATES: Final = 200
CALIBRATION_S: Final = 5.0
SAMPLE_S: Final = 1.0
"""Between two looks at the memory, at least; there are `SAMPLES` at most."""
SAMPLES: Final = 1000
WARM_UP: Final = 0.2
"""Of the time: until then caches and sequences fill, and no slope is drawn through it."""


class Requests(Sequence[bytes]):
    """Slates and feedback in turn, made when they are sent: hours of them would not fit into memory.

    Args:
        first: number of the first; events are named after it.
        count: how many.
    """

    def __init__(self, first: int, count: int) -> None:
        self._first = first
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(self._count))]
        if not 0 <= at < self._count:
            raise IndexError(at)
        number = self._first + at
        user = f"soak-{number // 2 % USERS}"
        if number % 2:
            videos = ((number + i) % 7000 for i in range(CANDIDATES))
            candidates = [{"video_id": str(video), "duration_s": 20.0} for video in videos]
            slate = {"user_id": user, "timestamp_ms": NOW_MS + number, "candidates": candidates}
            return post("/rerank", json.dumps(slate).encode())
        event = {
            "event_id": f"soak-{number}",
            "user_id": user,
            "video_id": str(number % 7000),
            "timestamp_ms": NOW_MS + number,
            "watch_time_s": number % 60 + 0.5,
            "duration_s": 30.0,
        }
        return post("/label", json.dumps(event).encode())


@dataclass
class Memory:
    """What processes hold over time, in MiB. Not a number where that cannot be read."""

    at_s: list[float] = field(default_factory=list)
    service: list[float] = field(default_factory=list)
    store: list[float] = field(default_factory=list)

    def look(self, program: Program, at_s: float) -> None:
        """Add a sample."""
        started = children(program.pid)
        stores = [pid for pid, called in started.items() if "valkey" in called or "redis" in called]
        self.at_s.append(at_s)
        self.service.append(rss_mib(program.pid) or float("nan"))
        self.store.append(sum(rss_mib(pid) or 0.0 for pid in stores) or float("nan"))


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
            found = soak(program, minutes * 60, share)
    except (ReelrankError, ProgramFailed) as e:
        print(f"soak: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    command = f"python -m loadtests.soak --minutes {minutes:g} --share {share:g}"
    print(json.dumps(stamp(command) | {"figures": found}, indent=2))


def soak(program: Program, seconds: float, share: float) -> dict[str, Any]:
    """Find the capacity, then load the service with a share of it.

    Args:
        program: running, with an empty store of its own.
        seconds: of constant load.
        share: of the capacity.
    """
    host, _, port = program.url.removeprefix("http://").rpartition(":")
    address = host, int(port)
    say(f"calibrating for {CALIBRATION_S:g} s")
    most = 1_000_000  # none is sent twice, however fast the service is
    capacity, _ = saturate(address, Requests(0, most), seconds=CALIBRATION_S)
    rate = share * capacity
    say(f"{capacity:.0f} requests/s; now {rate:.0f}/s for {seconds / 60:g} min")
    requests = Requests(most, max(2, round(rate * seconds)))
    with watched(program, max(SAMPLE_S, seconds / SAMPLES)) as memory:
        run = drive(address, requests, np.arange(len(requests)) / rate)
    return {"capacity_requests_per_s": round(capacity, 1), "seconds": seconds} | course(run, memory, seconds)


def course(run: Run, memory: Memory, seconds: float) -> dict[str, Any]:
    """Slopes and drifts of what came after the warm-up.

    Args:
        run: requests of which every second one, from the second on, is a slate.
        memory: sampled meanwhile.
        seconds: how long it was to last.
    """
    at_s = np.array(memory.at_s)
    late = at_s >= WARM_UP * seconds
    slates = np.zeros(len(run.status), bool)
    slates[1::2] = True
    good = slates & (run.status == 200) & (run.due_s >= WARM_UP * seconds)
    second = run.due_s >= (1 + WARM_UP) / 2 * seconds
    first_ms, second_ms = (_median_ms(run.latency_s[good & half]) for half in (~second, second))
    drift = None if first_ms is None or second_ms is None else round(second_ms / first_ms - 1, 4)
    return figures(run) | {
        "rss_mib": {"start": memory.service[0], "end": memory.service[-1]},
        "rss_slope_mib_per_h": slope_per_h(at_s[late], np.array(memory.service)[late]),
        "store_rss_slope_mib_per_h": slope_per_h(at_s[late], np.array(memory.store)[late]),
        "rerank_p50_ms": {"first_half": first_ms, "second_half": second_ms},
        "rerank_p50_drift": drift,
    }


def slope_per_h(seconds: F64, values: F64) -> float | None:
    """The slope of the line through the points, least squares; `None` if none can be drawn."""
    if len(seconds) < 3 or not np.isfinite(values).all():
        return None
    return round(float(np.polyfit(seconds / 3600, values, 1)[0]), 2)


@contextmanager
def watched(program: Program, every_s: float) -> Iterator[Memory]:
    """Look at the memory from a thread, at the beginning, now and then, and at the end."""
    memory, start, ended = Memory(), time.monotonic(), threading.Event()

    def look() -> None:
        memory.look(program, time.monotonic() - start)
        while not ended.wait(every_s):
            memory.look(program, time.monotonic() - start)

    watching = threading.Thread(target=look, name="memory", daemon=True)
    try:
        watching.start()
        yield memory
    finally:
        ended.set()
        if watching.ident is not None:
            watching.join()
        memory.look(program, time.monotonic() - start)


def _median_ms(seconds: F64) -> float | None:
    return round(float(np.median(seconds)) * 1e3, 3) if len(seconds) else None


def say(line: str) -> None:
    """For somebody who waits."""
    print(f"soak: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    typer.run(main)
