"""`python -m service consume`: labels for the events of a Redis Stream, without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry, start_http_server

from models.errors import BadInput
from service.app import open_services
from service.settings import Settings
from service.state import RedisStore
from service.stream.consumer import Consumer, ConsumerConfig
from service.stream.metrics import StreamMetrics
from service.stream.redis_stream import EventStream, Names

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def consume(
    settings: Settings,
    names: Names,
    config: ConsumerConfig,
    *,
    maxlen: int,
    metrics_host: str,
    metrics_port: int,
) -> None:
    """Consume until SIGTERM or Ctrl-C; then the batch is finished. A second one ends it at once, which loses
    nothing either.

    Args:
        settings: as for `serve`; the store's URL is where the streams are too.
        names: of the streams, the group and the consumer.
        config: see `ConsumerConfig`.
        maxlen: about how many labels and dead letters are kept.
        metrics_host: where Prometheus finds the counts.
        metrics_port: 0: nowhere.

    Raises:
        BadInput: no store is named, a key is no stream, the port is taken, the bundle lacks a label.
        BundleError: the bundle cannot be used.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_consume(settings, names, config, maxlen, metrics_host, metrics_port))


async def _consume(
    settings: Settings,
    names: Names,
    config: ConsumerConfig,
    maxlen: int,
    metrics_host: str,
    metrics_port: int,
) -> None:
    if settings.store is None:
        raise BadInput(
            "No store is configured: pass --store redis://… or unix://…, or set REELRANK_STORE. "
            f"The store of a running `serve` is unix://{settings.data_dir}/valkey.sock."
        )
    store = RedisStore.open(
        settings.store,
        sequence_length=settings.sequence_length,
        idempotency_window_s=settings.idempotency_window_s,
    )
    async with open_services(settings, store) as services:
        if services.serving.version is not None:
            services.label.target(config.labels)  # a wrong name should say so before anything is read
        with (
            _exported(services.metrics.registry, metrics_host, metrics_port) as where,
            _until_signal() as stop,
        ):
            async with _stream(settings.store, names, maxlen) as stream:
                consumer = Consumer(
                    services.label, stream, config, StreamMetrics(services.metrics.registry), stop
                )
                print(
                    f"reelrank consumes {names.stream} as {names.group}/{names.consumer} · "
                    f"bundle {services.serving.version or 'none yet'}{where}",
                    flush=True,
                )
                await consumer.run()
    settled = consumer.settled
    print(
        f"{settled['labels']} labels to {names.labels}, {settled['dead']} dead letters to {names.dead}",
        flush=True,
    )


@contextlib.asynccontextmanager
async def _stream(url: str, names: Names, maxlen: int) -> AsyncIterator[EventStream]:
    stream = EventStream.open(url, names, maxlen=maxlen)
    try:
        yield stream
    finally:
        await stream.leave()


@contextlib.contextmanager
def _until_signal() -> Iterator[asyncio.Event]:
    """Set by the first signal; the second one does what it does by itself."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def first() -> None:
        stop.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, first)
    try:
        yield stop
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _exported(registry: CollectorRegistry, host: str, port: int) -> Iterator[str]:
    """/metrics on a port of its own; yields what to say of it."""
    if not port:
        yield ""
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as e:
        said = f"Metrics cannot be served on {host}:{port}: {e.strerror}"
        raise BadInput(f"{said}; choose another --metrics-port.") from e
    try:
        yield f" · metrics on http://{host}:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
