"""`python -m service consume --source kafka://…`, on a broker: each message has one output in effect."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from prometheus_client import CollectorRegistry
from redis import Redis

from loadtests.faults.proxy import FaultProxy
from loadtests.host import free_port
from loadtests.kafka_broker import Broker, broker
from models.errors import BadInput, StoreUnavailable
from models.schema import FeedbackEvent
from service.app import open_services
from service.settings import Settings
from service.state import Outcome, RedisStore
from service.stream.consumer import ConsumerConfig
from service.stream.opening import open_source
from service.stream.redis_stream import Names
from tests.service import consuming
from tests.service.consuming import consume_program, events, running_consumers
from tests.service.running import START_S, event
from tests.service.stores import patient_store, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kafka")]

WAIT_S = 60.0
PARTITIONS = 4


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker(tmp_path_factory.mktemp("kafka") / "broker.log") as running:
        yield running


@dataclass
class Topic:
    """A topic of the test's own, and streams of Redis for what becomes of it."""

    broker: Broker
    name: str
    redis: Redis
    store: str
    options: str = ""

    @property
    def source(self) -> str:
        # The broker gives out partitions half a session after the last member has joined.
        brief = "session.timeout.ms=4000&heartbeat.interval.ms=500"
        return f"kafka://{self.broker.brokers}/{self.name}?{brief}{self.options}"

    def add(self, events: Sequence[dict[str, Any] | bytes]) -> None:
        values = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in events]
        self.broker.add(self.name, [(str(number), value) for number, value in enumerate(values)])

    def out(self, to: str) -> list[dict[bytes, bytes]]:
        entries = cast(list[tuple[bytes, dict[bytes, bytes]]], self.redis.xrange(f"{self.name}:{to}"))
        return [fields for _, fields in entries]

    def labelled(self) -> Counter[str]:
        """How often each event has a label."""
        return Counter(json.loads(fields[b"label"])["event_id"] for fields in self.out("labels"))

    def settled(self) -> int:
        return sum(int(self.redis.xlen(f"{self.name}:{to}")) for to in ("labels", "dead"))

    def committed(self) -> int:
        return sum(self.broker.committed(self.name, self.name, PARTITIONS))

    def names(self, consumer: str, dots: bool = False) -> Names:
        prefix = f"{self.name}{'.' if dots else ':'}"
        return Names("", self.name, consumer, f"{prefix}labels", f"{prefix}dead")


@pytest.fixture
def topic(kafka: Broker, embedded_url: str) -> Iterator[Topic]:
    with Redis.from_url(embedded_url) as redis:
        yield Topic(kafka, kafka.create("events", PARTITIONS), redis, embedded_url)


@asynccontextmanager
async def consumers(
    topic: Topic,
    bundle: Path,
    data_dir: Path,
    *,
    count: int = 1,
    sink: str = "",
    url: str = "",
    **options: Any,
) -> AsyncIterator[CollectorRegistry]:
    """Consumers in this process, running; ended as by a signal. Yields what they count."""
    settings = Settings.read(bundle=bundle, data_dir=data_dir, poll_s=0.05)
    url = url or topic.store
    async with open_services(settings, patient_store(url)) as services:
        sources = [
            open_source(
                topic.names(f"c{number}", bool(sink)),
                store=url,
                source=topic.source,
                sink=sink,
                properties=None,
                maxlen=100_000,
            )
            for number in range(count)
        ]
        async with running_consumers(services, sources, ConsumerConfig(**options)):
            yield services.metrics.registry


until = partial(consuming.until, seconds=WAIT_S)


def test_each_message_is_labelled_once_and_then_committed(
    topic: Topic, bundles: Path, tmp_path: Path
) -> None:
    """A second run finds nothing left; what cannot be read is a dead letter with its reason."""
    good = events("plain", 40)
    topic.add([*good, b"{not json", event("plain-bad", "u", watch_time_s=-1)])

    async def main() -> None:
        async with consumers(topic, bundles, tmp_path, batch=10) as registry:
            await until(lambda: topic.committed() == 42)
            await until(lambda: registry.get_sample_value("reelrank_stream_lag") == 0.0)
            assert registry.get_sample_value("reelrank_stream_processed_total") == 40.0
        topic.add(events("more", 5))
        async with consumers(topic, bundles, tmp_path):
            await until(lambda: topic.settled() >= 47)

    run(main())
    assert topic.labelled() == Counter(one["event_id"] for one in [*good, *events("more", 5)])
    dead = {fields[b"code"]: fields for fields in topic.out("dead")}
    assert dead.keys() == {b"malformed", b"invalid"}
    assert dead[b"malformed"][b"event"] == b"{not json"


def test_labels_and_dead_letters_go_to_topics_in_one_transaction_with_the_offsets(
    topic: Topic, bundles: Path, tmp_path: Path
) -> None:
    """Two consumers share the partitions."""
    for to in ("labels", "dead"):
        topic.broker.create(f"{topic.name}.{to}", exact=True)
    good = events("topics", 40)
    topic.add([*good, b"{not json"])

    async def main() -> None:
        sink = f"kafka://{topic.broker.brokers}"
        async with consumers(topic, bundles, tmp_path, count=2, sink=sink, batch=10):
            await until(lambda: topic.committed() == 41)

    run(main())
    labels = topic.broker.read(f"{topic.name}.labels")
    by_key = Counter(message.key() for message in labels)
    assert by_key == Counter(one["event_id"].encode() for one in good)
    assert {json.loads(message.value() or b"")["event_id"].encode() for message in labels} == by_key.keys()
    (dead,) = topic.broker.read(f"{topic.name}.dead")
    assert (dead.key(), dead.value()) == (b"40", b"{not json")
    assert ("code", b"malformed") in (dead.headers() or ())
    assert topic.settled() == 0


def test_offsets_are_committed_after_the_store_has_the_events(
    topic: Topic, bundles: Path, tmp_path: Path
) -> None:
    """While the store is away nothing is committed; when it is back nothing is lost or doubled."""
    topic.add(events("away", 60))

    async def main() -> None:
        with FaultProxy(topic.store.removeprefix("unix://").partition("?")[0]) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with consumers(topic, bundles, tmp_path, url=url, batch=10):
                await until(lambda: topic.settled() >= 10)
                await asyncio.to_thread(proxy.refuse)
                topic.add(events("later", 30))
                settled = topic.settled()
                await asyncio.sleep(1.0)
                assert topic.committed() <= settled == topic.settled()
                await asyncio.to_thread(proxy.heal)
                await until(lambda: topic.committed() == 90)

    run(main())
    assert topic.labelled() == Counter(one["event_id"] for one in [*events("away", 60), *events("later", 30)])


def test_what_always_fails_becomes_a_dead_letter_and_takes_no_other_with_it(
    topic: Topic, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_many = RedisStore.record_many

    async def fail_on_one(store: RedisStore, recorded: Sequence[FeedbackEvent]) -> list[Outcome]:
        if any(one.user_id == "broken" for one in recorded):
            raise StoreUnavailable("a fault of ours", reason="other")
        return await record_many(store, recorded)

    monkeypatch.setattr(RedisStore, "record_many", fail_on_one)
    good = events("fine", 20)
    topic.add([*good[:10], event("broken-1", "broken"), *good[10:]])

    async def main() -> None:
        async with consumers(topic, bundles, tmp_path, idle_s=0.05, deliveries=2):
            await until(lambda: topic.committed() == 21)

    run(main())
    assert topic.labelled() == Counter(one["event_id"] for one in good)
    assert [fields[b"code"] for fields in topic.out("dead")] == [b"undeliverable"]


def test_brokers_that_are_away_are_waited_for(bundles: Path, tmp_path: Path, embedded_url: str) -> None:
    """Every connection breaks and new ones are refused, as at a restart; the broker remembers its topics."""
    port = free_port()
    with (
        FaultProxy(("127.0.0.1", port)) as proxy,
        Redis.from_url(embedded_url) as redis,
        broker(tmp_path / "broker.log", port=port, advertised_port=proxy.port),
        closing(Broker(f"localhost:{proxy.port}")) as away,
    ):
        topic = Topic(away, away.create("events", PARTITIONS), redis, embedded_url)
        topic.add(events("before", 30))

        async def main() -> None:
            async with consumers(topic, bundles, tmp_path, batch=5):
                await until(lambda: topic.settled() >= 10)
                await asyncio.to_thread(proxy.refuse)
                await asyncio.sleep(1.0)
                await asyncio.to_thread(proxy.heal)
                await asyncio.to_thread(topic.add, events("after", 30))
                await until(lambda: topic.committed() == 60)

        run(main())
        expected = [one["event_id"] for one in [*events("before", 30), *events("after", 30)]]
        assert topic.labelled() == Counter(expected)


# --- the program


def program(
    topic: Topic, bundle: Path, data_dir: Path, *more: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    names = topic.names("")
    options = {"source": topic.source, "store": topic.store, "bundle": bundle, "group": names.group}
    options |= {"labels": names.labels, "dead": names.dead}
    return consume_program(options, {"PATH": "", "REELRANK_DATA_DIR": str(data_dir)}, *more)


def test_kill_9_and_another_that_joins_lose_and_double_nothing(
    topic: Topic, bundles: Path, tmp_path: Path
) -> None:
    topic.add(events("killed", 300))
    often = ("--batch", "5", "--kafka-properties", str(tmp_path / "client.properties"))
    (tmp_path / "client.properties").write_text("# of the group\nmax.poll.interval.ms = 60000\n")
    with program(topic, bundles, tmp_path, *often) as first:
        run(until(lambda: topic.settled() >= 50))
        first.kill()
    topic.add(events("joined", 100))
    with program(topic, bundles, tmp_path, *often) as second:
        run(until(lambda: topic.committed() == 400))
        second.terminate()
        _, complained = second.communicate(timeout=START_S)
    assert second.returncode == 0, complained
    expected = [one["event_id"] for one in [*events("killed", 300), *events("joined", 100)]]
    assert topic.labelled() == Counter(expected)


def test_a_user_that_is_not_known_is_refused_in_one_line_without_the_password(
    bundles: Path, tmp_path: Path, embedded_url: str
) -> None:
    secret = tmp_path / "client.properties"
    secret.write_text(
        "security.protocol=sasl_plaintext\nsasl.mechanism=SCRAM-SHA-256\n"
        "sasl.username=reelrank\nsasl.password=hunter2\n"
    )
    with broker(tmp_path / "broker.log", authenticates=True) as strict:
        options = {"source": f"kafka://{strict.brokers}/events", "store": embedded_url, "bundle": bundles}
        options["kafka-properties"] = secret
        done = subprocess.run(
            [sys.executable, "-m", "service", "consume"]
            + [str(part) for name, value in options.items() for part in (f"--{name}", value)],
            env={"PATH": "", "REELRANK_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("reelrank: The brokers at kafka://")
    assert "authentication" in last
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("source", "sink", "message"),
    [
        ("kafka://localhost:1", "", "names no topic"),
        ("kafka://localhost:1/a%20b", "", "no name of a topic"),
        ("kafka://u:hunter2@localhost:1/t", "", "--kafka-properties"),
        ("kafka://localhost:1/t?sasl.password=hunter2", "", "--kafka-properties"),
        ("kafka://localhost:1/t?group.id=x", "", "group.id is set"),
        ("kafka://localhost:1/t?no.such=x", "", "no.such"),
        ("kafka://localhost:1/t", "kafka://elsewhere:1", "one transaction"),
        ("redis://localhost:1", "kafka://localhost:1", "same server"),
        ("rabbit://u:hunter2@localhost:1", "", "redis://"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(
    source: str, sink: str, message: str
) -> None:
    async def main() -> None:
        open_source(
            Names("s", "g", "c", "l", "d"),
            store="redis://localhost:1",
            source=source,
            sink=sink,
            properties=None,
            maxlen=1,
        )

    with pytest.raises(BadInput, match=message) as refused:
        run(main())
    assert "hunter2" not in str(refused.value)


def test_tls_is_asked_for_by_the_url(bundles: Path, tmp_path: Path, embedded_url: str) -> None:
    ca, port = trustme.CA(), free_port()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)
    options = {"security.protocol": "ssl", "ssl.ca.location": str(tmp_path / "ca.pem")}
    with (
        FaultProxy(("127.0.0.1", port), tls=context) as proxy,
        Redis.from_url(embedded_url) as redis,
        broker(tmp_path / "broker.log", port=port, advertised_port=proxy.port),
        closing(Broker(f"localhost:{proxy.port}", **options)) as secured,
    ):
        topic = Topic(secured, secured.create("events", PARTITIONS), redis, embedded_url)
        topic.options = "".join(f"&{name}={value}" for name, value in options.items())
        topic.add(events("secret", 10))

        async def main() -> None:
            async with consumers(topic, bundles, tmp_path):
                await until(lambda: topic.committed() == 10)

        run(main())
        assert topic.labelled() == Counter(one["event_id"] for one in events("secret", 10))
