"""`python -m service serve`: starts the store, the socket and the workers, and stops them in order."""

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
from service.server import descriptors
from service.server.sockets import listening, reserved
from service.server.store_supervisor import StoreSupervisor
from service.server.supervisor import Supervisor
from service.server.worker import run_worker
from service.settings import Settings
from service.state import EmbeddedServer, open_store
from service.state.embedded import make_private_folder
from service.telemetry import logs, tracing
from service.telemetry.metrics import MULTIPROCESS_DIR, Metrics, shared_values
from service.unlearning.ledger import FILE as LEDGER
from service.unlearning.ledger import Ledger

log = logging.getLogger("reelrank.serve")


def serve(settings: Settings, *, host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or Ctrl-C; then workers stop first, the store last.

    Args:
        settings: without a store URL, a Valkey server is started under the data folder.
        host: see `listen_address`.
        port: 0 takes a free one.
        workers: number of processes, each with a listening socket of its own on the same port.

    Raises:
        BadInput: the port is taken, the data folder cannot be written or another service uses it, keys cannot
            be read, or tracing is on and not installed.
        BundleError: the bundle cannot be used.
        StoreUnavailable: the embedded store does not start, or cannot live.
    """
    logs.configure(settings.log_level, settings.log_format)
    descriptors.raise_limit()
    if settings.tracing != "off":
        tracing.require()
    host = listen_address(settings, host)
    for warning in security_warnings(settings, host):
        log.warning(warning)
    Ledger(settings.data_dir / LEDGER).prepare()
    if settings.store is not None:
        open_store(settings)  # does not connect: raises if the URL is malformed
    # Opened before anything is started: a port in use should be reported at once.
    with listening(host, port) as sock, contextlib.ExitStack() as stack:
        port = sock.getsockname()[1]
        if workers > 1:
            sock.close()
            stack.enter_context(reserved(host, port))
            stack.enter_context(shared_metrics(settings.data_dir, port))
        metrics = Metrics()
        if settings.store is None:
            server = EmbeddedServer(settings.data_dir)
            stack.enter_context(StoreSupervisor(server, metrics.store_restarts.inc))
            settings = settings.with_embedded_store(server.url)
            store = f"store in {settings.data_dir}"
        else:
            store = f"store {urlsplit(settings.store).hostname or 'by socket'}"

        def ready(version: str | None) -> None:
            bundle = f"bundle {version}" if version else "no bundle yet: promote one and it will be loaded"
            address = f"[{host}]" if ":" in host else host
            print(f"reelrank listens on http://{address}:{port} · {bundle} · {store} · /docs", flush=True)

        if workers == 1:
            run_worker(settings, sock, ready, signals=(signal.SIGTERM, signal.SIGINT), metrics=metrics)
        else:
            Supervisor(settings, host, port, workers).run(ready)


def listen_address(settings: Settings, host: str) -> str:
    """Return the host to listen on: without an API key a loopback address, whatever was configured.

    Raises:
        BadInput: the keys cannot be read.
    """
    if Keys.read(settings.api_keys.get_secret_value(), settings.api_keys_file):
        return host
    if is_loopback(host):
        log.warning("no API key is configured: listening on loopback only (REELRANK_API_KEYS)")
        return host
    log.warning("no API key is configured, so %s is not served; listening on 127.0.0.1 only", host)
    return "127.0.0.1"


def security_warnings(settings: Settings, host: str) -> Iterator[str]:
    """Yield warnings about secrets that others can read, and about rights that the service does not need."""
    for secret, file in (("API keys", settings.api_keys_file), ("store's password", settings.store_file)):
        if file is not None and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield f"other users of this machine can read the {secret} in {file}: chmod 600 {file}"
    if not is_loopback(host) and hasattr(os, "geteuid") and os.geteuid() == 0:
        yield "it runs as root, which nothing here needs: start it as a user of its own"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def shared_metrics(data_dir: Path, port: int) -> Iterator[None]:
    """Provide the folder in which processes share their metrics, without those of an earlier run.

    Raises:
        BadInput: it cannot be made.
    """
    folder = data_dir / f"metrics-{port}"
    shutil.rmtree(folder, ignore_errors=True)
    make_private_folder(folder)
    os.environ[MULTIPROCESS_DIR] = str(folder)
    try:
        with shared_values("supervisor"):
            yield
    finally:
        del os.environ[MULTIPROCESS_DIR]
        shutil.rmtree(folder, ignore_errors=True)
