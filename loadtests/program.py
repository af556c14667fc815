"""The program under test: `python -m service serve` in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

import models
from models.manifest import MANIFEST
from models.store import BundleStore

START_S: Final = 60.0
END_S: Final = 30.0
"""The service's own grace is shorter; what is still there after this is killed."""

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def version_folder(root: Path | None) -> Path:
    """The folder of one version: `root` itself, or the active one of those in it.

    Args:
        root: the released bundles, if `None`.

    Raises:
        BundleNotFound, CorruptBundle: see `BundleStore.current`.
    """
    root = root or Path(next(iter(models.__path__))) / "bundles"
    return root if (root / MANIFEST).exists() else BundleStore(root).path(BundleStore(root).current())


class ProgramFailed(Exception):
    """The service did not start. The message has its last words."""


class Program:
    """A service on loopback, started, killed and started again on the same port. A context manager.

    It is alone in its process group, so a Ctrl-C meant for us does not reach it, and none of its processes
    is left at the end, however the end comes.

    Args:
        bundle: a folder of versions, or one version's.
        data_dir: its `REELRANK_DATA_DIR`. Its log is `service.log` there.
        options: further ones of `serve`.
        env: further variables. The caller's own `REELRANK_*` are not passed on.

    Attributes:
        url: where it answers, once started.
    """

    def __init__(self, bundle: Path, data_dir: Path, *options: str, env: Mapping[str, str] = NOTHING) -> None:
        self._command = [sys.executable, "-m", "service", "serve", "--bundle", str(bundle), *options]
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("REELRANK_")}
        self._env |= {"REELRANK_DATA_DIR": str(data_dir), **env}
        self._log = data_dir / "service.log"
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.terminate()
        finally:
            self._clear()

    @property
    def pid(self) -> int:
        """Of the process that was started; it is the worker, unless there are several."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said on standard error, over all starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start it and wait until it answers. The second start takes the port of the first.

        Raises:
            ProgramFailed: it did not come up.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*self._command, "--port", str(self._port)],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        there, _, _ = select.select([self._process.stdout], [], [], START_S)
        found = re.search(r"http://[\w.]+:(\d+)", self._process.stdout.readline() if there else "")
        if found is None:
            words = "\n".join(self.log.strip().splitlines()[-3:]) or "nothing"
            raise ProgramFailed(f"the service did not start; its last words: {words}")
        self.url, self._port = found[0], int(found[1])

    def kill(self) -> None:
        """SIGKILL of the process that was started, and nothing else; returns when it has gone."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def terminate(self) -> int:
        """SIGTERM, and the exit code; 0 if it does not run."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._reap()
        except subprocess.TimeoutExpired:
            self._clear()
            raise

    def _reap(self) -> int:
        assert self._process is not None
        code = self._process.wait(END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def _clear(self) -> None:
        """Workers whose parent was killed end by themselves within a second; nobody waits for that here."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reap()
