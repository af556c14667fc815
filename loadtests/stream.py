"""`python -m loadtests.stream`: millions of events through one NDJSON connection, and the worker's memory.

Events go out and labels come back at the same time. Every reply is counted and compared with the summary at
the end; a stream that lost or duplicated a line ends with exit code 1.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from loadtests.command import (
    BundleOption,
    JsonOption,
    LoadtestError,
    log_progress,
    make_app,
    print_report,
    run,
)
from loadtests.environment import Service, version_folder
from loadtests.soak import WARM_UP, MemorySamples, slope
from service.client import AsyncClient
from service.wire import Label, StreamSummary

NOW_MS: Final = 1_651_330_969_569
USERS: Final = 5_000
VIDEOS: Final = 7_000
SAMPLES: Final = 100
"""Memory samples, evenly over the events."""


def main(
    events: Annotated[int, typer.Option(min=100, help="Number of events.")] = 1_000_000,
    store: Annotated[bool, typer.Option(help="Store them, or only label them.")] = False,
    bundle: BundleOption = None,
    json_file: JsonOption = None,
) -> None:
    """Stream events through one worker with an embedded store and print figures as JSON."""
    with (
        tempfile.TemporaryDirectory() as data_dir,
        Service(version_folder(bundle), Path(data_dir)) as service,
    ):
        figures = asyncio.run(stream(service, events, store))
    command = f"python -m loadtests.stream --events {events} --{'' if store else 'no-'}store"
    print_report(command, {"figures": figures}, json_file)
    if not figures["adds_up"]:
        sys.exit(1)


async def stream(service: Service, count: int, store: bool) -> dict[str, Any]:
    """Stream `count` events; return the counts, the rate, and the course of the memory."""
    memory, interval = MemorySamples(), max(1, count // SAMPLES)
    labels = others = 0
    summary: StreamSummary | None = None
    start_s = time.perf_counter()
    async with (
        AsyncClient(service.url, timeout_s=60.0) as client,
        aclosing(client.label_stream(event_lines(count), store=store)) as replies,
    ):
        async for reply in replies:
            if isinstance(reply, Label):
                labels += 1
                if labels % interval == 0:
                    memory.add(service, labels)
                if labels % (10 * interval) == 0:
                    rate = labels / (time.perf_counter() - start_s)
                    log_progress("stream", f"{labels} labels, {rate:.0f}/s, {memory.service[-1]:.1f} MiB")
            elif isinstance(reply, StreamSummary):
                summary = reply
            else:
                others += 1
    took_s = time.perf_counter() - start_s
    if summary is None:
        raise LoadtestError("the stream ended without a summary")
    sent, rss = np.array(memory.time_s), np.array(memory.service)
    warm = sent >= WARM_UP * count
    return {
        "events": count,
        "stored": store,
        "seconds": round(took_s, 1),
        "events_per_s": round(count / took_s),
        "labels": labels,
        "rejected": others,
        "summary": {"accepted": summary.accepted, "duplicates": summary.duplicates, "merged": summary.merged},
        # Each event is sent once. A duplicate is one whose command to the store was answered only at the
        # second try: it was stored once, by the first.
        "adds_up": labels == count == summary.accepted + summary.duplicates
        and others == summary.rejected == summary.merged == 0
        and (store or not summary.duplicates),
        "worker_rss_mib": {
            "first": rss[0],
            "warm": float(rss[warm][0]),
            "last": rss[-1],
            "most": float(rss.max()),
        },
        "worker_rss_slope_mib_per_million_events": slope(sent[warm] / 1e6, rss[warm], 3),
        "store_rss_mib": {"first": memory.store[0], "last": memory.store[-1]},
    }


def event_lines(count: int) -> Iterator[bytes]:
    """Yield each event once, of users and videos that recur."""
    line = (
        b'{"event_id":"s%d","user_id":"su%d","video_id":"%d","timestamp_ms":%d,"watch_time_s":%d.5,'
        b'"duration_s":30.0,"like":%s}'
    )
    for i in range(count):
        like = b"true" if i % 11 == 0 else b"false"
        yield line % (i, i * 7919 % USERS, i * 104_729 % VIDEOS, NOW_MS + i, i % 60, like)


app = make_app("stream", main)

if __name__ == "__main__":
    run(app)
