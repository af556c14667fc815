"""One worker: a process that answers requests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from signal import Signals
from typing import Final

import uvicorn
import uvloop

from service.app import create_app, open_services
from service.server.descriptors import max_connections
from service.server.http_protocol import with_limits
from service.services import Services
from service.settings import Settings
from service.state import open_store
from service.telemetry.metrics import Metrics

log = logging.getLogger("reelrank.worker")

Ready = Callable[[str | None], None]
"""Called with the version of the loaded bundle when requests are answered."""

PARENT_POLL_S: Final = 0.5

KEEP_ALIVE_S: Final = 75
"""Longer than clients keep idle connections, so that clients close them, not the service."""

GC_THRESHOLD: Final = (20_000, 10, 10)
"""A slate of 200 makes about a thousand objects and no cycles; the default would scan for some at each."""


def run_worker(
    settings: Settings,
    sock: socket.socket,
    ready: Ready,
    *,
    signals: tuple[Signals, ...],
    metrics: Metrics | None = None,
    parent: int | None = None,
) -> None:
    """Serve on a listening socket until a signal arrives.

    Args:
        settings: with the store's URL.
        sock: listening; closed when no more connections are accepted.
        ready: called once.
        signals: the first begins the shutdown, the second ends it at once.
        metrics: of this process; by default new ones.
        parent: stop when this process is gone.

    Raises:
        BundleError, BadInput: as `open_services`.
    """

    async def serve() -> None:
        store = open_store(settings)
        async with open_services(settings, store, metrics) as services:
            gc.collect()
            gc.freeze()  # what is loaded stays: later collections skip it
            gc.set_threshold(*GC_THRESHOLD)
            server = Server(services, ready, signals)
            watch = asyncio.create_task(_stop_with_parent(server, parent))
            try:
                await server.serve(sockets=[sock])
            finally:
                watch.cancel()
                log.info("stopped", extra={"pid": os.getpid()})

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


class Server(uvicorn.Server):
    """uvicorn with our order of shutting down.

    On the first signal the service is not ready at once, goes on serving for `drain_s`, then accepts no more
    connections and lets requests in flight finish for at most `grace_s`. uvicorn's own handling would raise
    the signal again at the end, before the store is closed.
    """

    def __init__(self, services: Services, ready: Ready, signals: tuple[Signals, ...]) -> None:
        settings = services.settings
        super().__init__(
            uvicorn.Config(
                create_app(services),
                http=with_limits(settings.body_timeout_s, max_connections()),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(settings.grace_s),
            )
        )
        self._services = services
        self._ready = ready
        self._signals = signals

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, then report that the service is ready."""
        await super().startup(sockets)
        log.info("ready", extra={"pid": os.getpid(), "version": self._services.serving.version})
        self._ready(self._services.serving.version)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals while in the context. Outside the main thread the caller uses `stop`."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in self._signals:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Begin the shutdown; a second call ends it at once."""
        if self._services.draining:
            self.should_exit = self.force_exit = True
            return
        self._services.draining = True
        drain_s = self._services.settings.drain_s
        log.info("stopping", extra={"pid": os.getpid(), "drain_s": drain_s})
        asyncio.get_running_loop().call_later(drain_s, setattr, self, "should_exit", True)


async def _stop_with_parent(server: Server, parent: int | None) -> None:
    while parent is None or os.getppid() == parent:
        await asyncio.sleep(PARENT_POLL_S)
    server.stop()
