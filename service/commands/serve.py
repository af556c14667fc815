"""`python -m service serve`: the store, the sockets and the worker processes, and ending them in order."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from service.http.auth import Keys
from service.server.sockets import listening, reserved
from service.server.supervisor import Supervisor
from service.server.worker import run_worker
from service.settings import Settings
from service.state import EmbeddedServer, RedisStore
from service.telemetry import logs, tracing
from service.telemetry.metrics import MULTIPROCESS_DIR

log = logging.getLogger("reelrank.serve")


def serve(settings: Settings, *, host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or Ctrl-C; then not ready at once, requests in flight finish, the store stops last.

    Args:
        settings: without a store URL a Valkey server of our own is started under the data folder.
        host: without any API key it must be a loopback address, and becomes one if it is not.
        port: 0 takes a free one.
        workers: processes, each with a listening socket of its own on the same port.

    Raises:
        BadInput: the port is taken, the data folder is in use by another service, keys cannot be read, spans
            are asked for and cannot be made.
        BundleError: the bundle cannot be used.
    """
    logs.configure(settings.log_level, settings.log_format)
    if settings.tracing != "off":
        tracing.require()
    keyed = bool(Keys.read(settings.api_keys.get_secret_value(), settings.api_keys_file))
    if not keyed:
        if not is_loopback(host):
            log.warning("no API key is configured, so %s is not served; listening on 127.0.0.1 only", host)
            host = "127.0.0.1"
        else:
            log.warning("no API key is configured: listening on loopback only (REELRANK_API_KEYS)")
    for warning in exposed(settings, host):
        log.warning(warning)
    if settings.store is not None:
        RedisStore.open(settings.store)  # connects to nothing: a URL that is none ends the start here
    # Taken before anything is started: a port in use should say so at once.
    with listening(host, port) as first, contextlib.ExitStack() as stack:
        port = first.getsockname()[1]
        where = f"store {urlsplit(settings.store).hostname or 'by socket'}" if settings.store else ""
        if settings.store is None:
            server = stack.enter_context(EmbeddedServer(settings.data_dir))
            settings = settings.model_copy(update={"store": server.url})
            where = f"store in {settings.data_dir}"

        def ready(version: str | None) -> None:
            bundle = f"bundle {version}" if version else "no bundle yet: promote one and it will be taken"
            shown = f"[{host}]" if ":" in host else host
            print(f"reelrank listens on http://{shown}:{port} · {bundle} · {where} · /docs", flush=True)

        if workers == 1:
            run_worker(settings, first, ready, signals=(signal.SIGTERM, signal.SIGINT))
        else:
            first.close()
            stack.enter_context(shared_metrics(settings.data_dir, port))
            with reserved(host, port):
                Supervisor(settings, host, port, workers).run(ready)


def exposed(settings: Settings, host: str) -> Iterator[str]:
    """What an operator should know about who can read secrets here, and what an intruder would get."""
    for what, file in (("API keys", settings.api_keys_file), ("store's password", settings.store_file)):
        if file is not None and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield f"other users of this machine can read the {what} in {file}: chmod 600 {file}"
    if not is_loopback(host) and hasattr(os, "geteuid") and os.geteuid() == 0:
        yield "it runs as root, which nothing here needs: start it as a user of its own"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def shared_metrics(data_dir: Path, port: int) -> Iterator[None]:
    """The folder in which workers meet for /metrics. Emptied at start: counts of a dead run are not ours."""
    folder = data_dir / f"metrics-{port}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[MULTIPROCESS_DIR] = str(folder)
    try:
        yield
    finally:
        del os.environ[MULTIPROCESS_DIR]
        shutil.rmtree(folder, ignore_errors=True)
