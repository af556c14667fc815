"""The composition root: the only file that names concrete classes and puts them together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from starlette.types import ASGIApp

from models.errors import StoreUnavailable
from models.runtime import Bundle
from service.api import errors, health, label, models, rerank, users, videos
from service.api.auth import Keys
from service.api.docs import document
from service.api.edge import Edge
from service.api.metarank import feedback, rank
from service.api.oip import infer, metadata
from service.api.services import Services
from service.runtime.bundles import Bundles
from service.runtime.catalogue import Catalogue
from service.runtime.ledger import Ledger
from service.runtime.slot import Slot
from service.settings import Settings
from service.store.protocol import Store
from service.telemetry.metrics import Metrics

log = logging.getLogger("reelrank.app")

DESCRIPTION = """Feedback in, labels out; candidates in, an ordered slate out.

Times are Unix milliseconds, durations are seconds, ids are opaque strings. Errors are RFC 9457 problem
documents. Every answer carries `X-Request-Id` and `Server-Timing`."""


@contextlib.asynccontextmanager
async def open_services(settings: Settings, store: Store) -> AsyncIterator[Services]:
    """Everything a process needs, with a bundle loaded and the catalogue read; closed again at the end.

    Args:
        settings: see there.
        store: closed at the end too.

    Raises:
        BundleError: the bundle to start with cannot be used.
        BadInput: the API keys cannot be read.
    """
    metrics, slot, catalogue = Metrics(), Slot(), Catalogue()

    def loaded(bundle: Bundle) -> None:
        metrics.reloads.labels("loaded").inc()
        metrics.serving(bundle.manifest.version, bundle.provider)

    bundles = Bundles(
        settings.bundle,
        slot,
        settings.device,
        loaded=loaded,
        failed=lambda: metrics.reloads.labels("failed").inc(),
    )
    services = Services(
        settings=settings,
        store=store,
        ledger=Ledger(settings.data_dir / "unlearning.ndjson"),
        slot=slot,
        bundles=bundles,
        keys=Keys.read(settings.api_keys.get_secret_value(), settings.api_keys_file),
        metrics=metrics,
        catalogue=catalogue,
    )

    async def follow_catalogue() -> None:
        with contextlib.suppress(StoreUnavailable):  # the copy stays; health says that the store is away
            await catalogue.follow(store)
            metrics.videos.set(len(catalogue))

    try:
        await bundles.start()
        await follow_catalogue()
        closing = asyncio.Event()
        polls = [
            asyncio.create_task(_every(settings.poll_s, step, closing))
            for step in (bundles.follow, follow_catalogue)
        ]
        try:
            yield services
        finally:
            closing.set()
            await asyncio.gather(*polls)
    finally:
        await store.close()


def create_app(services: Services) -> ASGIApp:
    """The HTTP surface over the services."""
    app = FastAPI(
        title="reelrank",
        version=_version(),
        description=DESCRIPTION,
        redoc_url=None,
        redirect_slashes=False,  # an answer of ours is a document; a redirect would repeat the caller's Host
    )
    app.state.services = services
    for part in (label, rerank, users, videos, models, health, feedback, rank, infer, metadata):
        app.include_router(part.router)
    errors.install(app)
    document.install(app, services.slot, keys=bool(services.keys))
    return Edge(app, services)


async def _every(seconds: float, step: Callable[[], Awaitable[None]], closing: asyncio.Event) -> None:
    """Steps have time-outs of their own and are let finish: a cancellation in the middle of a command is
    now and then swallowed by the Redis client, and the process would never end."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await closing.wait()
                return
        try:
            await step()
        except Exception:  # a fault in one look must not end all later ones
            log.exception("a background step failed; the next one is in %g s", seconds)


def _version() -> str:
    try:
        return version("reelrank")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
