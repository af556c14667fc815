"""`python -m loadtests.consume`: three consumers of a Redis Stream and of a Kafka topic, undisturbed and not.

The same events go through `python -m service consume` from either source into streams of Redis. In the last
run a fourth consumer joins, one of the three is killed with -9 while the group shares its partitions out, and
every connection to the broker breaks for some seconds. All labels are counted; if one is missing or doubled
the exit code is 1. Needs the extra `dev`, which has the broker.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer
from redis import Redis

from loadtests.command import BundleOption, JsonOption, log_progress, make_app, print_report, run
from loadtests.environment import ServerProcess, version_folder, wait_until
from loadtests.faults.proxy import FaultProxy
from loadtests.host import cpu_ms, free_port
from loadtests.kafka_broker import Broker, broker
from loadtests.stream import event_lines
from service.state import EmbeddedServer

CONSUMERS: Final = 3
PARTITIONS: Final = 12
AWAY_S: Final = 3.0
"""How long the broker is unreachable."""

JOINING_S: Final = 1.5
"""From when a consumer joins until the middle of the rebalance: it lasts half a session."""

LIMIT_S: Final = 900.0
LABELS: Final = "reelrank:labels"
DEAD: Final = "reelrank:dead"
PAGE: Final = 10_000
SESSION: Final = "session.timeout.ms=6000&heartbeat.interval.ms=500"
"""The broker lets half a session pass before it gives out partitions."""


class Group:
    """Consumers of one source, and the store that they fill.

    Args:
        version: folder of a bundle.
        root: folder for files.
        store: URL of an empty store.
        source: of the events; empty: the store.
    """

    def __init__(self, version: Path, root: Path, store: str, source: str) -> None:
        self._options = ["--store", store, "--bundle", str(version), "--source", source, "--idle-s", "5"]
        self._root = root
        self._processes = ExitStack()
        self.consumers: list[ServerProcess] = []
        self.redis = Redis.from_url(store)

    def start(self) -> None:
        """Start another consumer."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith("REELRANK_")}
        consumer = ServerProcess(
            [sys.executable, "-m", "service", "consume", *self._options],
            variables | {"REELRANK_DATA_DIR": str(self._root / "data")},
            self._root / f"consumer-{len(self.consumers)}.log",
        )
        self.consumers.append(self._processes.enter_context(consumer))

    def wait(self, labels: int) -> float:
        """Wait for so many labels and return the time."""
        wait_until(lambda: self.labelled() >= labels, f"{labels} labels", LIMIT_S)
        return time.perf_counter()

    def labelled(self) -> int:
        """Return how many labels there are."""
        return self.redis.xlen(LABELS)

    def cpu_ms(self) -> float:
        """Return what the running consumers have used."""
        return sum(cpu_ms(consumer.pid) for consumer in self.consumers if not consumer.ended)

    def labels(self) -> Iterator[str]:
        """Yield the event of each label."""
        after = "-"
        while page := cast(
            list[tuple[bytes, dict[bytes, bytes]]], self.redis.xrange(LABELS, after, count=PAGE)
        ):
            for _, fields in page:
                yield json.loads(fields[b"label"])["event_id"]
            after = f"({page[-1][0].decode()}"

    def close(self) -> None:
        """End everything."""
        self._processes.close()
        self.redis.close()


def main(
    events: Annotated[int, typer.Option(min=100, help="Number of events.")] = 100_000,
    bundle: BundleOption = None,
    json_file: JsonOption = None,
) -> None:
    """Consume events from either source, then from Kafka with faults, and print figures as JSON."""
    version = version_folder(bundle)
    figures = {}
    for name in ("redis", "kafka", "kafka_with_faults"):
        with tempfile.TemporaryDirectory(prefix="consume-") as folder:
            figures[name] = consume(name, version, Path(folder), events)
        log_progress("consume", f"{name}: {figures[name]}")
    setting = {"events": events, "consumers": CONSUMERS, "partitions": PARTITIONS, "away_s": AWAY_S}
    command = f"python -m loadtests.consume --events {events}"
    print_report(command, {"bundle": version.name, "setting": setting, "figures": figures}, json_file)
    if any(found[fault] for found in figures.values() for fault in ("lost", "doubled", "dead")):
        sys.exit(1)


def consume(name: str, version: Path, root: Path, events: int) -> dict[str, Any]:
    """Have all events labelled.

    Args:
        name: of the run, as in the report.
        version: folder of a bundle.
        root: an empty folder.
        events: how many.

    Returns:
        Counts, and unless it was disturbed the rate from the first tenth to the end.
    """
    with ExitStack() as stack:
        store, source = stack.enter_context(EmbeddedServer(root / "store")).url, ""
        if name != "redis":
            port = free_port()
            proxy = stack.enter_context(FaultProxy(("127.0.0.1", port)))
            reached = proxy.port if name == "kafka_with_faults" else port
            stack.enter_context(broker(root / "broker.log", port=port, advertised_port=reached))
            client = stack.enter_context(closing(Broker(f"localhost:{reached}")))
            topic = client.create("events", PARTITIONS)
            client.add(topic, ((json.loads(line)["user_id"], line) for line in event_lines(events)))
            source = f"kafka://localhost:{reached}/{topic}?{SESSION}"
        group = stack.enter_context(closing(Group(version, root, store, source)))
        if name == "redis":
            _fill_stream(group.redis, events)
        for _ in range(CONSUMERS):
            group.start()
        first, before_ms = group.wait(events // 10), group.cpu_ms()
        faults = _disturb(group, proxy, events) if name == "kafka_with_faults" else {}
        seconds, used_ms = group.wait(events) - first, group.cpu_ms() - before_ms
        codes = [consumer.terminate() for consumer in group.consumers if not consumer.ended]
        found = Counter(group.labels())
        speed = {
            "events_per_s": round(0.9 * events / seconds),
            "consumer_cpu_us_per_event": round(used_ms * 1000 / (0.9 * events)),
        }
        return {
            "labels": found.total(),
            "lost": events - len(found),
            "doubled": found.total() - len(found),
            "dead": group.redis.xlen(DEAD),
            "ended_in_order": codes.count(0),
            **(faults or speed),
        }


def _disturb(group: Group, proxy: FaultProxy, events: int) -> dict[str, int]:
    """Have a consumer join, kill another before the group has settled, and break all connections to the
    broker after half of the events. Return how many labels there were at each."""
    group.start()
    joined = group.consumers[-1]
    wait_until(lambda: "consumes" in joined.log, "the consumer that joins", LIMIT_S)
    time.sleep(JOINING_S)
    group.consumers[0].kill()
    killed_at = group.labelled()
    group.wait(events // 2)
    proxy.refuse()
    away_at = group.labelled()
    time.sleep(AWAY_S)
    proxy.heal()
    return {"killed_at": killed_at, "away_at": away_at}


def _fill_stream(redis: Redis, events: int) -> None:
    lines = list(event_lines(events))
    for start in range(0, events, PAGE):
        with redis.pipeline(transaction=False) as pipeline:
            for line in lines[start : start + PAGE]:
                pipeline.xadd("reelrank:events", {"event": line})
            pipeline.execute()


app = make_app("consume", main)

if __name__ == "__main__":
    run(app)
