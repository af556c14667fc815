"""`python -m service consume`: labels for the events of a stream, without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry, start_http_server

from models.errors import BadInput
from service.app import open_services
from service.settings import Settings
from service.state import open_store
from service.stream.consumer import Consumer, ConsumerConfig
from service.stream.metrics import StreamMetrics
from service.stream.opening import open_source
from service.stream.redis_stream import Names

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def consume(
    settings: Settings,
    names: Names,
    config: ConsumerConfig,
    *,
    maxlen: int,
    metrics_host: str,
    metrics_port: int,
    source: str = "",
    sink: str = "",
    properties: Path | None = None,
) -> None:
    """Consume until SIGTERM or Ctrl-C, then finish the batch; a second signal ends at once and loses nothing.

    Args:
        settings: as for `serve`; the store holds the streams too, unless `source` and `sink` say otherwise.
        names: of the streams or topics, the group and the consumer.
        config: batch size, labels, and when entries are claimed or given up.
        maxlen: approximate length of the streams of labels and dead letters.
        metrics_host: address of /metrics.
        metrics_port: port of /metrics; 0 is none.
        source: `kafka://brokers/topic` or a Redis URL; empty: the store.
        sink: `kafka://brokers` or a Redis URL; empty: the store.
        properties: file of Kafka's options.

    Raises:
        BadInput: no store is configured, a key is not a stream, a topic is missing, the port is taken, or a
            label is unknown.
        BundleError: the bundle cannot be used.
    """
    if settings.store is None:
        raise BadInput(
            "No store is configured: pass --store redis://… or unix://…, or set REELRANK_STORE. "
            f"The store of a running `serve` is unix://{settings.data_dir}/valkey.sock."
        )
    if config.trim and source.startswith("kafka:"):
        raise BadInput("--trim is of Redis Streams; a topic of Kafka has its own retention. Leave it out.")
    url, store = settings.store, open_store(settings)

    async def run() -> None:
        async with open_services(settings, store) as services, contextlib.AsyncExitStack() as stack:
            if services.serving.version is not None:
                services.label.target(config.labels)  # an unknown label is reported before anything is read
            registry = services.metrics.registry
            address = stack.enter_context(_metrics_server(registry, metrics_host, metrics_port))
            stop = stack.enter_context(_first_signal())
            events = open_source(
                names, store=url, source=source, sink=sink, properties=properties, maxlen=maxlen
            )
            stack.push_async_callback(events.leave)
            consumer = Consumer(services.label, events, config, StreamMetrics(registry), stop)
            print(
                f"reelrank consumes {events.name} as {names.group}/{names.consumer} · "
                f"bundle {services.serving.version or 'none yet'}{address}",
                flush=True,
            )
            await consumer.run()
        labels, dead = consumer.settled["labels"], consumer.settled["dead"]
        print(f"{labels} labels to {names.labels}, {dead} dead letters to {names.dead}", flush=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@contextlib.contextmanager
def _first_signal() -> Iterator[asyncio.Event]:
    """Set the event on the first signal; a second one has its default effect."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def remove_handlers() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def stop_once() -> None:
        stop.set()
        remove_handlers()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop_once)
    try:
        yield stop
    finally:
        remove_handlers()


@contextlib.contextmanager
def _metrics_server(registry: CollectorRegistry, host: str, port: int) -> Iterator[str]:
    """Serve /metrics while in the context, and yield the address as a text to print."""
    if not port:
        yield ""
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as e:
        reason = f"Cannot serve metrics on {host}:{port}: {e.strerror}"
        raise BadInput(f"{reason}; choose another --metrics-port.") from e
    try:
        yield f" · metrics on http://{host}:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
