"""The one place where a consumer's source and sink are chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.errors import BadInput
from service.stream.redis_stream import EventStream, Names
from service.stream.source import Source


def open_source(
    names: Names,
    *,
    store: str,
    source: str,
    sink: str,
    properties: Path | None,
    maxlen: int,
) -> Source:
    """Open what events come from, and what takes their labels.

    Args:
        names: of streams or topics, the group and the consumer; the topic of events is in `source`.
        store: URL of the sequences' store.
        source: `kafka://…/topic` or a Redis URL; empty: the store.
        sink: `kafka://…` or a Redis URL; empty: the store.
        properties: file of Kafka's options.
        maxlen: approximate length of output streams in Redis.

    Raises:
        BadInput: a URL cannot be used, or these two cannot be combined.
    """
    if not source.startswith("kafka:"):
        source = source or store
        if sink not in ("", source):
            raise BadInput(
                "Events of a Redis Stream have their labels in the same server: writing these and "
                "acknowledging those are one step. Leave out --sink, or read from a topic of Kafka."
            )
        return EventStream.open(source, names, maxlen=maxlen)

    from service.stream.kafka_sink import KafkaSink
    from service.stream.kafka_source import KafkaSource
    from service.stream.kafka_url import KafkaUrl
    from service.stream.redis_sink import RedisSink

    topic = KafkaUrl.parse(source, properties)
    if not topic.topic:
        raise BadInput(f"{topic.display_url} names no topic: write kafka://broker:9092/topic.")
    if not sink.startswith("kafka:"):
        streams = replace(names, stream=topic.topic)
        return KafkaSource.open(topic, names.group, RedisSink.open(sink or store, streams, maxlen=maxlen))
    outputs = KafkaUrl.parse(sink, properties)
    if outputs.brokers != topic.brokers or outputs.topic:
        raise BadInput(
            f"Labels and the offsets they settle are one transaction, on the same brokers: write --sink "
            f"kafka://{topic.brokers}, and name the topics by --labels and --dead."
        )
    transactional_id = f"reelrank-{names.group}-{names.consumer}"
    return KafkaSource.open(
        topic, names.group, KafkaSink(outputs, names.labels, names.dead, transactional_id)
    )
