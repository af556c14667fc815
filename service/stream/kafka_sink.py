"""Labels and dead letters as messages of Kafka, in one transaction with the offsets they settle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from models.errors import BadInput, StoreUnavailable
from service.stream.kafka_failures import kafka_unavailable
from service.stream.kafka_url import KafkaUrl
from service.stream.source import Output

log = logging.getLogger("reelrank.kafka")

TIMEOUT_S: Final = 5.0
"""For one request."""

LIMIT_S: Final = 15.0
"""For a transaction: the client does not always keep to the time-outs of its requests."""

TRANSACTION_MS: Final = 30_000
"""The brokers end a transaction that a dead consumer left open after this; readers wait for that."""

VALUES: Final = {"labels": "label", "dead": "event"}
"""The field that is a message's value; the others are headers."""


class KafkaSink:
    """Two topics. A reader with `isolation.level=read_committed` sees each output once.

    Args:
        url: of the brokers.
        labels: topic of labels.
        dead: topic of dead letters.
        transactional_id: unique among the consumers that run; the same after a restart ends what was open.
    """

    commits = True

    def __init__(self, url: KafkaUrl, labels: str, dead: str, transactional_id: str) -> None:
        self._url = url
        self._topics = {"labels": labels, "dead": dead}
        self._transactional_id = transactional_id
        self._producer: Producer | None = None
        self._brokers = f"The brokers at {url.display_url}"

    async def prepare(self) -> None:
        """Begin anew: a transaction that an earlier run or a failure left open is ended."""
        if self._producer is None:
            await asyncio.to_thread(self._open)

    async def write(
        self, outputs: Sequence[Output], offsets: Sequence[TopicPartition], group: Any
    ) -> list[Output]:
        """Write outputs and commit offsets in one transaction."""
        try:
            async with asyncio.timeout(LIMIT_S):
                await _in_daemon(self._transact, outputs, offsets, group)
        except TimeoutError as e:
            self._producer = None
            reason = f"no transaction within {LIMIT_S:g} s"
            raise StoreUnavailable(f"{self._brokers} could not keep labels: {reason}", reason="other") from e
        return list(outputs)

    async def close(self) -> None:
        """Close connections."""
        self._producer = None

    def _open(self) -> None:
        try:
            producer = Producer(
                self._url.config(
                    transactional_id=self._transactional_id,
                    transaction_timeout_ms=TRANSACTION_MS,
                    linger_ms=5,
                ),
                logger=log,
            )
        except KafkaException as e:
            raise BadInput(f"Kafka's client refuses its configuration: {e.args[0].str()}.") from e
        with kafka_unavailable(self._url.display_url, "begin transactions"):
            for name in self._topics.values():
                error = producer.list_topics(name, TIMEOUT_S).topics[name].error
                if error is not None and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise BadInput(f"There is no topic {name} at {self._url.brokers}; create it.")
            producer.init_transactions(TIMEOUT_S)
        self._producer = producer

    def _transact(self, outputs: Sequence[Output], offsets: Sequence[TopicPartition], group: Any) -> None:
        producer = self._producer
        assert producer is not None, "`prepare` comes first"
        try:
            producer.begin_transaction()
            for output in outputs:
                headers = dict(output.fields)
                value = headers.pop(VALUES[output.to], None)
                producer.produce(self._topics[output.to], value, output.key, headers=list(headers.items()))
            producer.send_offsets_to_transaction(list(offsets), group, TIMEOUT_S)
            producer.commit_transaction(TIMEOUT_S)
        except (KafkaException, BufferError) as e:
            # It may be committed or not: the brokers know. The next producer of this name has them end it,
            # and the source goes on from the offsets that are committed then.
            if self._producer is producer:  # it may be another's turn by now
                self._producer = None
            with contextlib.suppress(KafkaException):
                producer.abort_transaction(TIMEOUT_S)
            text = e.args[0].str() if isinstance(e, KafkaException) else str(e)
            raise StoreUnavailable(f"{self._brokers} could not keep labels: {text}", reason="other") from e


async def _in_daemon(call: Callable[..., None], *args: Any) -> None:
    """Make a call that may never return in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def work() -> None:
        error: BaseException | None = None
        try:
            call(*args)
        except BaseException as e:
            error = e
        with contextlib.suppress(RuntimeError):  # the loop has ended without us
            loop.call_soon_threadsafe(finish, error)

    Thread(target=work, daemon=True, name="kafka-transaction").start()
    await done
