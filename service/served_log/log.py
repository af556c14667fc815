"""The served log of one process: events at once, slates and everything else in the background."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from models.errors import BadInput
from models.served_log import COMPRESSED, Kind
from service.served_log.ended_files import compress_ended, log_bytes, remove_oldest
from service.served_log.log_file import LogFile
from service.telemetry.served_log import ServedLogMetrics

log = logging.getLogger("reelrank.served_log")

QUEUE_SIZE: Final = 256
"""Slates that may wait to be written: some megabytes. What does not fit is dropped and counted."""

WRITE_S: Final = 0.05
"""How often they are written. A thread that woke up for each slate would delay its reply."""

FILE_BYTES: Final = 64 * 1024 * 1024
"""Size at which a file ends; less if the whole log may not have 16 of them."""

HOUSEKEEPING_S: Final = 2.0
"""How often ended files are looked for."""

COOLDOWN_RATIO: Final = 3.0
"""Seconds of pause after each second of compressing: it takes at most a quarter of a core."""

CLOSE_TIMEOUT_S: Final = 5.0
"""How long `close` waits for each thread."""


class _Closing(Exception):
    """The process ends; what is being compressed will be by the next one."""


class ServedLog:
    """Writes what was ranked and what was accepted.

    An event's line is in the kernel's hands when `append_events` returns, so that killing the process after
    its reply loses none. That is one `write` to the page cache a request, in the caller's thread. Slates wait
    in a bounded queue for a thread. A disk that is full costs lines, which are counted, and no request.

    Args:
        folder: made if it is missing, for its owner only: its lines hold ids.
        max_bytes: of the whole log, of all processes; a file a process and kind come on top of it.
        metrics: what is counted in.

    Raises:
        BadInput: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, max_bytes: int, metrics: ServedLogMetrics) -> None:
        prepare_folder(folder)
        self._folder = folder
        self._max_bytes = max_bytes
        self._metrics = metrics
        file_bytes = min(FILE_BYTES, max_bytes // 16)
        self._events = LogFile(folder, "events", file_bytes)
        self._slates = LogFile(folder, "slates", file_bytes)
        self._queue: deque[Callable[[], bytes]] = deque()
        self._closing = threading.Event()
        self._failing: set[str] = set()
        self._threads = [
            threading.Thread(target=target, name=f"served log: {name}", daemon=True)
            for name, target in (("slates", self._write_slates), ("files", self._keep_files))
        ]
        for thread in self._threads:
            thread.start()

    def append_events(self, lines: bytes) -> None:
        """Append whole lines of events."""
        self._append(self._events, "events", lines)

    def submit_slate(self, line: Callable[[], bytes]) -> None:
        """Queue a slate's line, which is made in the background, without waiting."""
        if len(self._queue) < QUEUE_SIZE:
            self._queue.append(line)
        else:
            self._metrics.lines.labels("slates", "dropped").inc()

    def close(self) -> None:
        """Write the slates that wait, and end the files."""
        self._closing.set()
        for thread in self._threads:
            thread.join(CLOSE_TIMEOUT_S)
        self._events.close()
        self._slates.close()

    def _append(self, file: LogFile, kind: Kind, lines: bytes) -> None:
        failure = None
        try:
            file.append(lines)
        except OSError as e:
            failure = e
        self._report(kind, failure)
        self._metrics.lines.labels(kind, "written" if failure is None else "failed").inc(lines.count(b"\n"))

    def _write_slates(self) -> None:
        while not self._closing.wait(WRITE_S) or self._queue:
            lines = []
            for _ in range(len(self._queue)):
                try:
                    lines.append(self._queue.popleft()())
                except Exception:  # a fault in one line must not end all later ones
                    log.exception("a slate could not be logged")
                time.sleep(0)  # lets the event loop have the interpreter
            if lines:
                self._append(self._slates, "slates", b"".join(lines))

    def _keep_files(self) -> None:
        while not self._closing.wait(HOUSEKEEPING_S):
            try:
                for file in (self._events, self._slates):
                    file.close_if_asked()
                compress_ended(self._folder, self._cool_down(time.thread_time()))
                for path in remove_oldest(self._folder, self._max_bytes):
                    kind = path.name.partition("-")[0]
                    self._metrics.removed.labels(kind).inc()
                    log.warning(
                        "the served log was too large: removed %s", path.name.removesuffix(COMPRESSED)
                    )
                self._metrics.bytes.set(log_bytes(self._folder))
                self._report("compressed files", None)
            except _Closing:
                return
            except (OSError, BadInput) as e:  # e.g. a full disk; they are looked at again
                self._report("compressed files", e)
            except Exception:
                log.exception("ended files of the served log stay as they are")

    def _cool_down(self, began_s: float) -> Callable[[], None]:
        """Return a pause in proportion to the CPU time since the last one."""

        def pause() -> None:
            nonlocal began_s
            if self._closing.wait((time.thread_time() - began_s) * COOLDOWN_RATIO):
                raise _Closing
            began_s = time.thread_time()

        return pause

    def _report(self, subject: str, error: Exception | None) -> None:
        """Log that something cannot be written, or can be again; once each."""
        if error is not None and subject not in self._failing:
            self._failing.add(subject)
            log.error("served log: %s cannot be written: %s", subject, error)
        elif error is None and subject in self._failing:
            self._failing.remove(subject)
            log.info("served log: %s can be written again", subject)


def prepare_folder(folder: Path) -> None:
    """Make the folder, and check that files can be made in it, so that the start says it if they cannot.

    Raises:
        BadInput: they cannot.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as e:
        raise BadInput(
            f"The served log cannot be written to {folder}: {e.strerror}. Give a folder that this user may "
            "write to as REELRANK_LOG_DIR, or leave it out."
        ) from None
