"""`python -m service consume`: each entry has one output, whichever process dies at any time.

This file is long because the loop and the program are tried on the same streams of the same two servers.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis

from loadtests.faults.proxy import FaultProxy
from models.errors import BadInput, StoreUnavailable
from models.schema import FeedbackEvent
from models.store import BundleStore
from service.app import open_services
from service.commands.consume import consume
from service.server.sockets import listening
from service.settings import Settings
from service.state import Outcome, RedisStore
from service.stream.consumer import Consumer, ConsumerConfig
from service.stream.metrics import StreamMetrics
from service.stream.redis_stream import EventStream, Names
from tests.service import tiny_bundle
from tests.service.consuming import consume_program, events, running_consumers, until
from tests.service.running import NOW_MS, START_S, event
from tests.service.stores import patient_store, run

_numbers = itertools.count()


@dataclass
class Streams:
    """Streams of the test's own, on a real server."""

    url: str
    redis: Redis
    names: Names

    def add(self, *events: dict[str, Any] | bytes) -> list[bytes]:
        """Add entries; returns their ids."""
        pipeline = self.redis.pipeline(transaction=False)
        for one in events:
            pipeline.xadd(self.names.stream, {"event": one if isinstance(one, bytes) else json.dumps(one)})
        return list(pipeline.execute())

    def out(self, key: str) -> list[dict[bytes, bytes]]:
        entries = cast(list[tuple[bytes, dict[bytes, bytes]]], self.redis.xrange(key))
        return [fields for _, fields in entries]

    def labels(self) -> list[dict[bytes, bytes]]:
        return self.out(self.names.labels)

    def dead(self) -> dict[bytes, dict[bytes, bytes]]:
        """Dead letters by the entry they are of."""
        return {fields[b"entry"]: fields for fields in self.out(self.names.dead)}

    def settled(self) -> Counter[bytes]:
        """How many outputs each entry has."""
        return Counter(
            fields[b"entry"] for key in (self.names.labels, self.names.dead) for fields in self.out(key)
        )


@pytest.fixture
def url(store_url: str) -> str:
    return store_url


@pytest.fixture
def streams(url: str) -> Iterator[Streams]:
    n = next(_numbers)
    with Redis.from_url(url) as redis:
        yield Streams(url, redis, Names(f"events-{n}", "g", "c", f"labels-{n}", f"dead-{n}"))


@asynccontextmanager
async def consumers(
    streams: Streams, bundle: Path, data_dir: Path, count: int = 1, url: str = "", **options: Any
) -> AsyncIterator[list[Consumer]]:
    """Consumers in this process, running; ended as by a signal."""
    url = url or streams.url
    settings = Settings.read(
        bundle=bundle, data_dir=data_dir, poll_s=0.05, late_s=options.pop("late_s", None)
    )
    async with open_services(settings, patient_store(url)) as services:
        opened = [
            EventStream.open(url, replace(streams.names, consumer=f"c{i}"), maxlen=10_000)
            for i in range(count)
        ]
        async with running_consumers(services, opened, ConsumerConfig(**options)) as running:
            yield running


def test_each_event_is_labelled_stored_and_acknowledged(
    streams: Streams, bundles: Path, tmp_path: Path
) -> None:
    ids = streams.add(*events("plain", 20), event("plain-e0", "plain-0", timestamp_ms=NOW_MS))

    async def main() -> None:
        async with consumers(streams, bundles, tmp_path, labels=("pcr", "labelcraft")):
            await until(lambda: streams.redis.xlen(streams.names.labels) == 21)

    run(main())
    answers = {fields[b"entry"]: json.loads(fields[b"label"]) for fields in streams.labels()}
    assert list(answers) == ids
    assert answers[ids[0]]["labels"] == {"pcr": 0.25, "labelcraft": 0.5}
    assert [answers[ids[i]]["duplicate"] for i in (0, 20)] == [False, True]
    assert streams.labels()[0][b"model_version"].decode() == tiny_bundle.FIRST
    assert streams.redis.xpending(streams.names.stream, "g")["pending"] == 0
    state = run(_sequence(streams.url, "plain-0"))
    assert [e.event_id for e in state] == ["plain-e0", "plain-e7", "plain-e14"]


async def _sequence(url: str, user_id: str) -> list[Any]:
    store = patient_store(url)
    try:
        state = await store.read(user_id)
        return [] if state is None else state.events
    finally:
        await store.close()


def test_what_cannot_be_labelled_is_a_dead_letter_with_its_reason(
    streams: Streams, bundles: Path, tmp_path: Path
) -> None:
    far_ms = int(time.time() * 1000) + 10**7
    entries: dict[str, dict[str, Any] | bytes] = {
        "": event("dead-1", "dead-u"),
        "malformed": b"{not json",
        "invalid": event("dead-2", "dead-u", watch_time_s=-1),
        "conflict": event("dead-1", "another-user"),
        "clock_skew": event("dead-3", "dead-u", timestamp_ms=far_ms),
        "duration_unknown": event("dead-4", "dead-u", duration_s=None),
    }
    ids = dict(zip(entries, streams.add(*entries.values()), strict=True))
    long = streams.add(b'{"event_id": "' + b"x" * 70_000 + b'"}')[0]
    other = streams.redis.xadd(streams.names.stream, {"Event": "{}", b"\xff": b"\xfe"})

    async def main() -> None:
        async with consumers(streams, bundles, tmp_path):
            await until(lambda: len(streams.settled()) == 8)

    run(main())
    dead = streams.dead()
    for code, id_ in ids.items():
        assert dead.get(id_, {}).get(b"code", b"").decode() == code
    assert dead[long][b"code"] == dead[other][b"code"] == b"malformed"  # type: ignore[index]  # bytes, as it is
    assert dead[ids["malformed"]][b"event"] == b"{not json"
    assert b"watch_time_s" in dead[ids["invalid"]][b"detail"]
    assert json.loads(dead[other][b"fields"]) == {"Event": "{}", "\\xff": "\\xfe"}  # type: ignore[index]
    assert set(streams.settled().values()) == {1}


def test_a_late_event_has_its_label_and_says_so(streams: Streams, bundles: Path, tmp_path: Path) -> None:
    streams.add(event("late-1", "late-u"))

    async def main() -> None:
        async with consumers(streams, bundles, tmp_path, late_s=60.0):
            await until(lambda: streams.settled())

    run(main())
    assert streams.labels()[0][b"late"] == b"true"
    assert run(_sequence(streams.url, "late-u")) == []


def test_two_share_the_work(streams: Streams, bundles: Path, tmp_path: Path) -> None:
    ids = streams.add(*events("shared", 300))

    async def main() -> list[int]:
        async with consumers(streams, bundles, tmp_path, count=2, batch=10) as both:
            await until(lambda: len(streams.settled()) == 300)
        return [consumer.settled["labels"] for consumer in both]

    done = run(main())
    assert sum(done) == 300
    assert min(done) > 0
    assert streams.settled() == Counter(ids)


@pytest.mark.parametrize("seed", range(3))
def test_each_entry_has_one_output_whichever_consumer_dies_at_any_await(
    streams: Streams, bundles: Path, tmp_path: Path, seed: int
) -> None:
    """Consumers are cancelled at moments of all kinds, their connections with them, two at a time."""
    rng = random.Random(seed)
    good = events(f"dying{seed}", 150)
    ids = streams.add(*good[:100], b"junk", *good[100:], b"more junk")

    async def one_life(settings: Settings, number: int) -> None:
        store = patient_store(streams.url)
        async with open_services(settings, store) as services:
            stop, metrics = asyncio.Event(), StreamMetrics(services.metrics.registry)
            opened, tasks = [], []
            for which in "ab":
                names = streams.names
                own = Names(names.stream, names.group, f"{which}{number}", names.labels, names.dead)
                opened.append(EventStream.open(streams.url, own, maxlen=10_000))
                how = ConsumerConfig(batch=20, idle_s=0.05, deliveries=1000)
                tasks.append(
                    asyncio.create_task(Consumer(services.label, opened[-1], how, metrics, stop).run())
                )
            for task in tasks:
                await asyncio.sleep(rng.uniform(0.0, 0.06))
                while not task.done():  # the Redis client now and then swallows a cancellation
                    task.cancel()
                    await asyncio.sleep(0.005)
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in opened:
                await one._client.aclose()

    async def main() -> None:
        settings = Settings.read(bundle=bundles, data_dir=tmp_path)
        for life in range(12):
            await one_life(settings, life)
        async with consumers(streams, bundles, tmp_path, batch=50, idle_s=0.05, deliveries=1000):
            await until(lambda: len(streams.settled()) == len(ids))

    run(main())
    assert streams.settled() == Counter(ids)
    assert set(streams.dead()) == {ids[100], ids[151]}


@pytest.mark.parametrize("code", [b"unreadable", b"undeliverable"])
def test_what_always_fails_goes_aside_and_takes_no_other_with_it(
    streams: Streams, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: bytes
) -> None:
    """What the store holds on one user is damaged, or its events fail though the store answers."""
    record_many = RedisStore.record_many

    async def fail_on_one(store: RedisStore, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        if any(event.user_id == "broken" for event in events):
            raise StoreUnavailable("a fault of ours", reason="other")
        return await record_many(store, events)

    if code == b"unreadable":
        streams.redis.set("rr:s:{broken}", b"\xff junk")
    else:
        monkeypatch.setattr(RedisStore, "record_many", fail_on_one)
    ids = streams.add(
        event("fine-1", "fine"), event("broken-1", "broken"), *(event(f"fine-{i}", "fine") for i in (2, 3))
    )

    async def main() -> None:
        async with consumers(streams, bundles, tmp_path, idle_s=0.05, deliveries=2):
            await until(lambda: len(streams.settled()) == 4)

    run(main())
    assert {id_: fields[b"code"] for id_, fields in streams.dead().items()} == {ids[1]: code}
    assert streams.settled() == Counter(ids)


def test_a_store_that_is_away_is_waited_for_and_nothing_is_lost(
    streams: Streams, bundles: Path, tmp_path: Path
) -> None:
    ids = streams.add(*events("away", 60))

    async def main() -> None:
        path = streams.url.removeprefix("unix://").partition("?")[0]
        with FaultProxy(path) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with consumers(streams, bundles, tmp_path, url=url, batch=10, idle_s=0.2):
                await until(lambda: len(streams.settled()) >= 10)
                await asyncio.to_thread(proxy.refuse)
                ids.extend(streams.add(*events("away-more", 30)))
                await asyncio.sleep(0.5)
                await asyncio.to_thread(proxy.heal)
                await until(lambda: len(streams.settled()) == 90)

    run(main())
    assert streams.settled() == Counter(ids)
    assert not streams.dead()


def test_another_bundle_is_taken_up_on_the_way(streams: Streams, tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, tiny_bundle.FIRST, tiny_bundle.SECOND)

    async def main() -> None:
        async with consumers(streams, root, tmp_path):
            for n, version in enumerate((tiny_bundle.FIRST, tiny_bundle.SECOND)):
                BundleStore(root).promote(version)

                def answered(version: str = version, n: int = n) -> bool:
                    streams.add(event(f"reload-{n}", "reload"))
                    return any(fields[b"model_version"] == version.encode() for fields in streams.labels())

                await until(answered)

    run(main())


def test_a_stream_that_was_removed_is_made_again(streams: Streams, bundles: Path, tmp_path: Path) -> None:
    streams.add(*events("removed", 10))

    async def main() -> None:
        async with consumers(streams, bundles, tmp_path):
            await until(lambda: len(streams.settled()) == 10)
            streams.redis.delete(streams.names.stream)
            streams.add(*events("anew", 10))
            await until(lambda: len(streams.settled()) == 20)

    run(main())


# --- the program


def program(
    streams: Streams, bundle: Path, data_dir: Path, *more: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    names = streams.names
    options = {"store": streams.url, "bundle": bundle, "stream": names.stream, "group": names.group}
    options |= {"labels": names.labels, "dead": names.dead}
    return consume_program(options, os.environ | {"REELRANK_DATA_DIR": str(data_dir)}, *more)


def scraped(port: int) -> dict[str, float]:
    """What the program counts; nothing while it does not answer."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        lines = [line.split() for line in reply.read().decode().splitlines() if "stream_" in line]
        return {name: float(value) for name, value, *more in lines if not more}
    return {}


@pytest.mark.xdist_group("processes")
@pytest.mark.slow
def test_kill_9_in_the_middle_again_and_again(streams: Streams, bundles: Path, tmp_path: Path) -> None:
    """Each entry has one output; the last life counts its part, ends in order and leaves no name behind."""
    ids = streams.add(*events("killed", 500))
    often = ("--batch", "10", "--idle-s", "0.2", "--deliveries", "100")
    lives = 3

    def length() -> int:
        return int(streams.redis.xlen(streams.names.labels))

    for _ in range(lives):
        enough = length() + 30
        with program(streams, bundles, tmp_path, *often) as process:
            run(until(lambda enough=enough: length() >= enough))
            process.kill()
    before = length()
    ids += streams.add(*events("late", 100), b"junk")  # however fast the lives before were
    with listening("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    with program(streams, bundles, tmp_path, *often, "--metrics-port", str(port)) as process:
        run(until(lambda: len(streams.settled()) == len(ids)))
        wanted = {
            "reelrank_stream_processed_total": 600.0 - before,
            'reelrank_stream_dead_total{code="malformed"}': 1.0,
            "reelrank_stream_lag": 0.0,
            "reelrank_stream_pending": 0.0,
        }
        run(until(lambda: scraped(port).items() >= wanted.items()))
        process.terminate()
        said, complained = process.communicate(timeout=START_S)
    assert process.returncode == 0, complained
    assert f"{600 - before} labels to {streams.names.labels}, 1 dead letters" in said
    assert streams.settled() == Counter(ids)
    assert list(streams.dead()) == [ids[-1]]
    left = [consumer["name"] for consumer in streams.redis.xinfo_consumers(streams.names.stream, "g")]
    assert len(left) == lives, "only those who were killed left their names"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"store": "http://x"}, r"redis://"),
        ({"wanted": "nope"}, r"nope"),
        ({"stream": "a-string"}, r"a-string is a string"),
        ({"port": 1}, r"metrics-port"),
    ],
)
def test_what_cannot_be_consumed_is_said(
    url: str, bundles: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with Redis.from_url(url) as redis, listening("127.0.0.1", 0) as taken:
        redis.set("a-string", "x")
        port = taken.getsockname()[1] if "port" in options else 0
        with pytest.raises(BadInput, match=message):
            consume(
                Settings.read(bundle=bundles, data_dir=tmp_path, store=options.get("store", url)),
                Names(options.get("stream", "e"), "g", "c", "l", "d"),
                ConsumerConfig(labels=(options["wanted"],) if "wanted" in options else ()),
                maxlen=10,
                metrics_host="127.0.0.1",
                metrics_port=port,
            )


@pytest.mark.slow
def test_without_a_store_it_ends_with_one_line(bundles: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", "consume", "--bundle", str(bundles)],
        env=os.environ | {"REELRANK_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "--store" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
