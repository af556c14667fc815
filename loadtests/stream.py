"""`python -m loadtests.stream`: millions of events through one connection, and what the worker's memory does.

Events go out as NDJSON and labels come back at the same time. Every answer is counted here and compared with
what the service says at the end. Loopback only, one worker, an own store; a figure is read by people, but a
stream that lost or doubled a line ends with exit code 1.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from loadtests.machine import children, rss_mib, stamp
from loadtests.program import Program, ProgramFailed, version_folder
from models.errors import ReelrankError
from service.client import AsyncClient
from service.wire import Label, StreamSummary

NOW_MS: Final = 1_651_330_969_569
USERS: Final = 5_000
VIDEOS: Final = 7_000

SAMPLES: Final = 100
"""Looks at the worker's memory, evenly over the events."""

WARM_UP: Final = 0.2
"""Part of the stream whose memory is not counted: caches and buffers reach their size."""


def main(
    events: Annotated[int, typer.Option(min=100, help="How many.")] = 1_000_000,
    store: Annotated[bool, typer.Option(help="Keep them, or only label them.")] = False,
    bundle: Annotated[
        Path | None, typer.Option(help="A folder of versions, or one; the released one if left out.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the figures go as well.")] = None,
) -> None:
    """Stream events through a service of our own and print figures as JSON."""
    try:
        with (
            tempfile.TemporaryDirectory() as data_dir,
            Program(version_folder(bundle), Path(data_dir)) as program,
        ):
            figures = asyncio.run(_stream(program, events, store))
    except (ReelrankError, ProgramFailed) as e:
        print(f"stream: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    command = f"python -m loadtests.stream --events {events} --{'' if store else 'no-'}store"
    report = json.dumps(stamp(command) | {"figures": figures}, indent=2)
    if json_file is not None:
        json_file.write_text(report + "\n")
    print(report)
    if not figures["adds_up"]:
        sys.exit(1)


async def _stream(program: Program, count: int, store: bool) -> dict[str, Any]:
    memory: list[tuple[int, float, float]] = []
    labels = others = 0
    summary: StreamSummary | None = None
    every = max(1, count // SAMPLES)
    began = time.perf_counter()
    async with (
        AsyncClient(program.url, timeout_s=60.0) as client,
        aclosing(client.label_stream(_events(count), store=store)) as answers,
    ):
        async for answer in answers:
            if isinstance(answer, Label):
                labels += 1
                if labels % every == 0:
                    memory.append((labels, *_memory(program)))
                    if labels % (10 * every) == 0:
                        rate = labels / (time.perf_counter() - began)
                        _say(f"{labels} labels, {rate:.0f}/s, worker {memory[-1][1]:.1f} MiB")
            elif isinstance(answer, StreamSummary):
                summary = answer
            else:
                others += 1
    took_s = time.perf_counter() - began
    assert summary is not None, "the client raises if there is none"
    sent, service, stores = np.array(memory).T
    warm = sent >= WARM_UP * count
    return {
        "events": count,
        "stored": store,
        "seconds": round(took_s, 1),
        "events_per_s": round(count / took_s),
        "labels": labels,
        "rejected": others,
        "summary": {"accepted": summary.accepted, "duplicates": summary.duplicates, "merged": summary.merged},
        # Each event is sent once. The service calls one a duplicate when its own command to the store was
        # answered only at the second try: then it was stored once, by the first.
        "adds_up": labels == count == summary.accepted + summary.duplicates
        and others == summary.rejected == summary.merged == 0
        and (store or not summary.duplicates),
        "worker_rss_mib": {
            "first": service[0],
            "warm": float(service[warm][0]),
            "last": service[-1],
            "most": float(service.max()),
        },
        "worker_rss_slope_mib_per_million_events": _slope(sent[warm], service[warm]),
        "store_rss_mib": {"first": stores[0], "last": stores[-1]},
    }


def _events(count: int) -> Iterator[bytes]:
    """Lines as a log has them; each event once, users and videos again and again."""
    for i in range(count):
        yield (
            b'{"event_id":"s%d","user_id":"su%d","video_id":"%d","timestamp_ms":%d,"watch_time_s":%d.5,'
            b'"duration_s":30.0,"like":%s}'
        ) % (
            i,
            i * 7919 % USERS,
            i * 104_729 % VIDEOS,
            NOW_MS + i,
            i % 60,
            b"true" if i % 11 == 0 else b"false",
        )


def _memory(program: Program) -> tuple[float, float]:
    """MiB of the worker and of its store; not a number where they cannot be read."""
    stores = [pid for pid, called in children(program.pid).items() if "valkey" in called or "redis" in called]
    store = sum(rss_mib(pid) or 0.0 for pid in stores) or float("nan")
    return rss_mib(program.pid) or float("nan"), store


def _slope(events: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> float | None:
    """Of the line through the points, least squares, per million events; `None` if none can be drawn."""
    if len(events) < 3 or not np.isfinite(values).all():
        return None
    return round(float(np.polyfit(events / 1e6, values, 1)[0]), 3)


def _say(line: str) -> None:
    """For somebody who waits."""
    print(f"stream: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
