"""The embedded store, started again whenever it dies, with the same data and under the same address."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from models.errors import ReelrankError, StoreUnavailable
from service.server.back_off import BackOff
from service.state import EmbeddedServer

log = logging.getLogger("reelrank.store")

MAX_QUICK_DEATHS: Final = 8
"""In a row; then the store cannot live, and the program ends: in some seven seconds and the time to start."""
STOP_POLL_S: Final = 0.2


def _end_program() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class StoreSupervisor:
    """Runs the server while in the context. A thread of its own starts it, as the kernel ends the server with
    the thread that started it, and waits for its end.

    Args:
        server: not started yet.
        restarted: called in the thread after each restart.
        give_up: called in the thread when the store cannot live; ends the program in an orderly way.

    Raises:
        StoreUnavailable, BadInput: see `EmbeddedServer.start`; when the context is left, if the store could
            not live.
    """

    def __init__(
        self,
        server: EmbeddedServer,
        restarted: Callable[[], None] = lambda: None,
        give_up: Callable[[], None] = _end_program,
    ) -> None:
        self._server = server
        self._restarted = restarted
        self._give_up = give_up
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._started = threading.Event()
        self._stopping = threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._started.wait()
        except BaseException:  # Ctrl-C while the files are read
            self._stop()
            raise
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if self._failure is not None and kind is None:
            raise self._failure

    def _stop(self) -> None:
        self._stopping.set()
        while self._thread.is_alive():
            self._server.terminate()  # again, in case a restart was just under way
            self._thread.join(STOP_POLL_S)

    def _run(self) -> None:
        try:
            self._server.start()
        except BaseException as e:
            self._failure = e
            return
        finally:
            self._started.set()
        try:
            self._keep_alive()
        except ReelrankError as e:
            self._failure = e
            self._give_up()
        finally:
            self._server.stop()

    def _keep_alive(self) -> None:
        """Wait for the server's end and start it again, until the stop.

        Raises:
            StoreUnavailable: it died too often.
            BadInput: its folder is gone.
        """
        back_off, started_s = BackOff(), time.monotonic()
        while True:
            reason = f"exit code {self._server.wait()}"
            while not self._stopping.is_set():
                pause_s = back_off.died(time.monotonic() - started_s)
                if back_off.quick_deaths > MAX_QUICK_DEATHS:
                    raise StoreUnavailable(
                        f"The embedded store died {back_off.quick_deaths} times in a row and is given up. "
                        f"The last time: {reason}"
                    )
                log.error("the embedded store died; restarting it", extra={"reason": reason, "in_s": pause_s})
                if self._stopping.wait(pause_s):
                    return
                started_s = time.monotonic()
                try:
                    self._server.restart()
                    break
                except StoreUnavailable as e:
                    reason = str(e)
            if self._stopping.is_set():
                return
            self._restarted()
            took_s = round(time.monotonic() - started_s, 2)
            log.warning("the embedded store is back", extra={"took_s": took_s})
