"""A topic of Kafka as the source of a consumer: a group shares its partitions, offsets are committed last.

An entry is pending from when it was read until it is settled, in this process alone: what a consumer leaves
is read again, from the committed offset, by the next owner of its partition. Within a partition entries are
settled in their order, so that the committed offset never passes one that is not settled. An entry that fails
holds up those behind it in its partition, and no other partition.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, Self, TypeVar

from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from models.errors import BadInput
from service.stream.kafka_failures import DENIED, REASSIGNED, kafka_unavailable
from service.stream.kafka_url import KafkaUrl
from service.stream.source import Backlog, Entry, Output

log = logging.getLogger("reelrank.kafka")

BLOCK_S: Final = 0.5
"""How long a read waits for new entries."""

TIMEOUT_S: Final = 5.0
"""For one request."""

Result = TypeVar("Result")


class Sink(Protocol):
    """Where what became of a topic's entries goes. Its methods raise `StoreUnavailable`."""

    commits: bool
    """Whether `write` also commits the offsets."""

    async def prepare(self) -> None:
        """Make ready to write, at the start and after a failure.

        Raises:
            BadInput: what is named cannot be written to.
        """

    async def write(
        self, outputs: Sequence[Output], offsets: Sequence[TopicPartition], group: Any
    ) -> list[Output]:
        """Write outputs, each once however often it is sent.

        Args:
            outputs: of one partition after the other, in the order of their entries.
            offsets: what is settled with them.
            group: who we are in the group.

        Returns:
            Those that were written by this call.
        """

    async def close(self) -> None:
        """Close connections."""


class KafkaSource:
    """One member of a group of consumers of a topic. Implements `Source`. Use `open`.

    Args:
        consumer: not subscribed yet.
        url: of the brokers and the topic.
        sink: of labels and dead letters.
        errors: of the client since messages came, by code.
    """

    def __init__(
        self, consumer: KafkaConsumer, url: KafkaUrl, sink: Sink, errors: dict[int, KafkaError]
    ) -> None:
        self._consumer = consumer
        self._errors = errors
        self._url = url
        self._sink = sink
        self._pending: dict[int, deque[Entry]] = {}
        """By assigned partition, in their order."""
        self._position: dict[int, int] = {}
        """By assigned partition: the offset after the last entry that was read; 0 before the first."""
        self._committed: dict[int, int] = {}
        """By assigned partition: the group's offset when it was assigned."""
        self._paused: set[int] = set()
        self._deliveries: Counter[bytes] = Counter()
        """Of entries that were given out again."""
        self._thread = ThreadPoolExecutor(1, "kafka")
        """The client blocks; one call at a time, and rebalances happen inside a read."""

    @classmethod
    def open(cls, url: KafkaUrl, group: str, sink: Sink) -> Self:
        """Open a topic; connects at first use.

        Raises:
            BadInput: an option is unknown or has an impossible value.
        """
        config = url.config(
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # a new group begins with the oldest event
            isolation_level="read_committed",
        )
        errors: dict[int, KafkaError] = {}

        def report(error: KafkaError) -> None:  # during calls of the client
            if error.code() not in errors:
                log.warning("%s: %s", url.display_url, error.str())
            errors[error.code()] = error

        try:
            return cls(KafkaConsumer(config | {"error_cb": report}, logger=log), url, sink, errors)
        except KafkaException as e:
            raise BadInput(f"Kafka's client refuses its configuration: {e.args[0].str()}.") from e

    @property
    def name(self) -> str:
        """Of the topic, with its brokers."""
        return self._url.display_url

    async def prepare(self) -> None:
        """Join the group, or join it again, which goes back to what is committed."""
        await self._sink.prepare()
        await self._call("give access to the topic", self._join)

    async def new(self, count: int) -> list[Entry]:
        """Return at most `count` entries that no consumer was given yet; none after half a second."""
        return await self._call("give out events", self._read, count)

    async def own(self, after: bytes) -> Entry | None:
        """Return nothing: what an earlier run left is read again."""
        return None

    async def abandoned(self, cursor: bytes, idle_s: float) -> tuple[bytes, Entry | None, int]:
        """Return the next partition's first entry if it failed."""
        last = _position(cursor)[0] if cursor != b"0-0" else -1
        # The partition's next entry if its first one is settled now, else the first of the next partition.
        for partition in sorted(self._pending):
            pending = self._pending[partition]
            if pending and (partition > last or (partition == last and pending[0].id != cursor)):
                self._deliveries[pending[0].id] += 1
                return pending[0].id, pending[0], 0
        return b"0-0", None, 0

    async def deliveries(self, entry: Entry) -> int:
        """Return how often this process gave out an entry."""
        return 1 + self._deliveries[entry.id]

    async def settle(self, outputs: Sequence[Output]) -> list[Output]:
        """Write outputs and commit offsets. An output after an entry that is not settled is left for later,
        and so is one of a partition that is not ours any more."""
        by_entry = {output.entry: output for output in outputs}
        due: list[Output] = []
        offsets: list[TopicPartition] = []
        for partition, pending in self._pending.items():
            before = len(due)
            for entry in pending:
                if entry.id not in by_entry:
                    break
                due.append(by_entry[entry.id])
            if len(due) > before:
                offset = _position(due[-1].entry)[1] + 1
                offsets.append(TopicPartition(self._url.topic, partition, offset))
        if not due:
            return []
        written = await self._sink.write(due, offsets, self._consumer.consumer_group_metadata())
        if len(written) < len(due):
            log.warning("%d entries had been settled already", len(due) - len(written))
        if not self._sink.commits:
            await self._call("commit offsets", self._commit, offsets)
        for output in due:
            self._pending[_position(output.entry)[0]].popleft()
            self._deliveries.pop(output.entry, None)
        return written

    async def backlog(self) -> Backlog:
        """Entries of the partitions that are ours."""
        return Backlog(
            await self._call("say what is left", self._lag),
            sum(len(pending) for pending in self._pending.values()),
        )

    async def trim(self) -> None:
        """Do nothing: a topic has a retention of its own."""

    async def leave(self) -> None:
        """Leave the group and close connections."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._consumer.close)
        self._thread.shutdown()
        await self._sink.close()

    def _join(self) -> None:
        try:
            topic = self._consumer.list_topics(self._url.topic, TIMEOUT_S).topics[self._url.topic]
        except KafkaException as e:
            self._consumer.poll(0)  # has the client report why
            reasons = (error for code, error in self._errors.items() if code in DENIED)
            raise KafkaException(next(reasons, e.args[0])) from e
        if topic.error is not None:
            if topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise BadInput(f"There is no topic at {self._url.display_url}; create it, or name another.")
            raise KafkaException(topic.error)
        self._consumer.unsubscribe()
        for state in (self._pending, self._position, self._committed, self._paused):
            state.clear()
        self._consumer.subscribe([self._url.topic], on_assign=self._assigned, on_revoke=self._revoked)

    def _assigned(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._pending |= {each.partition: deque() for each in partitions}
        self._position |= {each.partition: 0 for each in partitions}
        try:
            for each in consumer.committed(partitions, TIMEOUT_S):
                self._committed[each.partition] = each.offset
        except KafkaException as e:  # it matters to the first report of the lag only
            log.warning("The offsets that the group has committed are unknown: %s", e.args[0].str())

    def _revoked(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            for entry in self._pending.pop(each.partition, ()):
                self._deliveries.pop(entry.id, None)
            self._position.pop(each.partition, None)
            self._committed.pop(each.partition, None)
            self._paused.discard(each.partition)

    def _read(self, count: int) -> list[Entry]:
        self._hold({partition for partition, pending in self._pending.items() if pending})
        entries: list[Entry] = []
        trouble: KafkaError | None = None
        first = self._consumer.poll(BLOCK_S)  # `consume` would wait for all of them
        for message in [] if first is None else [first, *self._consumer.consume(count - 1, 0)]:
            partition, offset = message.partition(), message.offset()
            if (error := message.error()) is not None:
                trouble = error
            elif partition in self._pending and offset is not None and offset >= self._position[partition]:
                # Others were read just before their partition was revoked, and are read again by its owner.
                id_ = f"{self._url.topic}-{partition}@{offset}".encode()
                entry = Entry(id_, {b"event": message.value() or b""}, message.key() or b"")
                self._pending[partition].append(entry)
                self._position[partition] = offset + 1
                entries.append(entry)
                self._errors.clear()
        if trouble is not None and (not entries or trouble.code() in DENIED):
            raise KafkaException(trouble)
        return entries

    def _hold(self, failing: set[int]) -> None:
        """Read no further in these partitions, and again in those that were held before."""
        if resumed := self._paused - failing:
            self._consumer.resume([TopicPartition(self._url.topic, each) for each in resumed])
        if paused := failing - self._paused:
            self._consumer.pause([TopicPartition(self._url.topic, each) for each in paused])
        self._paused = failing

    def _commit(self, offsets: Sequence[TopicPartition]) -> None:
        try:
            self._consumer.commit(offsets=list(offsets), asynchronous=False)
        except KafkaException as e:
            if e.args[0].code() not in REASSIGNED:
                raise
            # The next owner reads these again, and the sink knows them.
            log.info("Offsets are not committed: %s", e.args[0].str())

    def _lag(self) -> int | None:
        """Entries of our partitions that were not read; `None` before the brokers have said how many."""
        total = 0
        for partition, position in self._position.items():
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._url.topic, partition), cached=True
            )
            if high < 0:
                return None
            total += max(high - max(position or self._committed.get(partition, 0), low), 0)
        return total

    async def _call(self, action: str, call: Callable[..., Result], *args: Any) -> Result:
        with kafka_unavailable(self._url.display_url, action):
            return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)


def _position(id_: bytes) -> tuple[int, int]:
    """Partition and offset of an entry: its id is `topic-partition@offset`."""
    before, _, offset = id_.rpartition(b"@")
    return int(before.rpartition(b"-")[2]), int(offset)
