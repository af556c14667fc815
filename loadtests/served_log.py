"""`python -m loadtests.served_log`: what the served log costs a request, as JSON; under two minutes.

Two services stand side by side, one with a log, and get the same requests in turn, so that whatever else the
machine does is in both. Trust the ratios.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from loadtests.bench import BATCH, CANDIDATES, HISTORY, SEED, USERS, WARM_UP
from loadtests.client import BlockingConnection, post, with_calm_deadline
from loadtests.command import BundleOption, make_app, print_report, run
from loadtests.environment import Service, version_folder
from loadtests.host import cpu_ms
from loadtests.traffic import Traffic, label_requests
from models.runtime import Bundle

CALLS: Final = 2_000
BATCH_CALLS: Final = 400


def main(bundle: BundleOption = None) -> None:
    """Measure both services and print JSON."""
    version = version_folder(bundle)
    traffic = Traffic(SEED, USERS, list(Bundle.load(version).vocabulary.id_to_index("video_id")))
    users = [traffic.users[i % USERS] for i in range(WARM_UP + CALLS)]
    slates = [post("/rerank", json.dumps(traffic.slate(user, CANDIDATES)).encode()) for user in users]
    histories = traffic.histories(HISTORY)
    events = label_requests(traffic.events(users), 1)
    batches = label_requests(traffic.events(users[:1] * BATCH * (WARM_UP + BATCH_CALLS)), BATCH)
    with tempfile.TemporaryDirectory() as folder:
        off, on = Path(folder) / "off", Path(folder) / "on"
        log = {"REELRANK_LOG_DIR": str(on / "log")}
        with Service(version, off) as without, Service(version, on, env=log) as with_log:
            pair = (without, with_log)
            for service in pair:
                with BlockingConnection(service.address) as connection:
                    for request in histories:
                        connection.send(with_calm_deadline(request))
            figures = {
                f"rerank_{CANDIDATES}_candidates": compare(pair, slates),
                "label_1_event": compare(pair, events),
                f"label_{BATCH}_events": compare(pair, batches),
            }
            with with_log.http() as http:
                metrics = http.get("/metrics").text.splitlines()
            figures["lines"] = {
                name.removeprefix("reelrank_log_lines_total"): float(value)
                for name, value in (line.rsplit(" ", 1) for line in metrics)
                if name.startswith("reelrank_log_lines_total")
            }
    print_report("python -m loadtests.served_log", {"figures": figures})


def compare(pair: tuple[Service, Service], requests: Sequence[bytes]) -> dict[str, Any]:
    """Return the median time to the reply and the worker's processor time, without and with the log."""
    took_ms: tuple[list[float], list[float]] = ([], [])
    with BlockingConnection(pair[0].address) as first, BlockingConnection(pair[1].address) as second:
        cpu_before_ms = [0.0, 0.0]
        for number, request in enumerate(map(with_calm_deadline, requests)):
            if number == WARM_UP:
                cpu_before_ms = [cpu_ms(service.pid) for service in pair]
            turn = ((first, took_ms[0]), (second, took_ms[1]))
            for connection, times in turn if number % 2 else reversed(turn):
                reply = connection.send(request)
                if number >= WARM_UP:
                    times.append((reply.received_s - reply.sent_s) * 1e3)
    cpu = [(cpu_ms(s.pid) - before) / len(took_ms[0]) for s, before in zip(pair, cpu_before_ms, strict=True)]
    median = [statistics.median(times) for times in took_ms]
    return {
        "off_ms": round(median[0], 3),
        "on_ms": round(median[1], 3),
        "ratio": round(median[1] / median[0], 3),
        "off_cpu_ms": round(cpu[0], 3),
        "on_cpu_ms": round(cpu[1], 3),
        "cpu_ratio": round(cpu[1] / cpu[0], 3),
        "calls": len(took_ms[0]),
    }


app = make_app("served_log", main)

if __name__ == "__main__":
    run(app)
