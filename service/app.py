"""The composition root: the only file that names concrete classes and puts them together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import anyio.to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp

from models.errors import BadInput, StoreUnavailable
from models.runtime import Bundle
from service.adapters.metarank import docs as metarank_docs
from service.adapters.metarank import feedback, rank
from service.adapters.open_inference import docs as open_inference_docs
from service.adapters.open_inference import infer, metadata
from service.catalogue.catalogue import Catalogue
from service.endpoints import health, label, rerank, users, videos
from service.endpoints import versions as models
from service.http import errors
from service.http.auth import Keys
from service.http.fast_path import Direct
from service.http.openapi import document, operations, page
from service.http.request_context import Edge
from service.inference.bundles import Bundles
from service.inference.rollout import Trial
from service.inference.serving_set import Slot
from service.inference.traffic_sample import Recorded
from service.overload.admission import Admission
from service.overload.event_loop_lag import Beat
from service.services import Services
from service.settings import Settings
from service.state import GuardedStore
from service.state.breaker import State
from service.state.guarded import Calls
from service.state.protocol import Store
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestLog
from service.telemetry.timed_store import TimedStore
from service.telemetry.tracing import Tracing
from service.unlearning.ledger import FILE as LEDGER
from service.unlearning.ledger import Ledger

log = logging.getLogger("reelrank.app")

ADMISSION_S: Final = 1.0
"""How long the start waits to hear whether the store lets us in."""

SAVE_S: Final = 60.0
"""How often recorded requests go to the disk, besides at the end."""

DESCRIPTION = """Feedback in, labels out; candidates in, an ordered slate out.

Times are Unix milliseconds, durations are seconds, ids are opaque strings. Errors are RFC 9457 problem
documents. Every answer carries `X-Request-Id` and `Server-Timing`."""


@contextlib.asynccontextmanager
async def open_services(settings: Settings, store: Store) -> AsyncIterator[Services]:
    """Everything a process needs, with a bundle loaded and the catalogue read; closed again at the end.

    Args:
        settings: see there.
        store: closed at the end too. It may be away; it is asked through circuit breakers.

    Raises:
        BundleError: the bundle to start with cannot be used.
        BadInput: the API keys or the catalogue's file cannot be read, the store does not let us in, or spans
            are asked for and cannot be made.
    """
    metrics, slot, catalogue = Metrics(), Slot(), Catalogue()
    if settings.catalogue is not None:
        catalogue = await anyio.to_thread.run_sync(Catalogue.from_file, settings.catalogue)
    recorded = Recorded(settings.data_dir / "recorded.bin")

    def breaker_changed(calls: Calls, state: State) -> None:
        metrics.faults.breaker(calls, state)
        log.warning("circuit of the store changed", extra={"calls": calls, "state": state})

    store = GuardedStore(
        TimedStore(store, metrics.store_seconds),
        failed=lambda calls, reason: metrics.faults.store_failures.labels(calls, reason).inc(),
        changed=breaker_changed,
    )

    def swapped(bundle: Bundle) -> None:
        metrics.drift.serving(bundle.manifest)
        found = {"version": bundle.manifest.version, "provider": bundle.provider}
        log.info("bundle loaded", extra=found)

    bundles = Bundles(
        settings.bundle,
        slot,
        settings.device,
        settings.gpu_memory_mib,
        trials={
            "split": Trial.parse(settings.split, "REELRANK_SPLIT") if settings.split else None,
            "shadow": Trial.parse(settings.shadow, "REELRANK_SHADOW") if settings.shadow else None,
        },
        recorded=recorded,
        metrics=metrics.bundles,
        swapped=swapped,
    )
    admission = Admission(settings)

    def report_load() -> None:
        for budget in admission.budgets():
            metrics.faults.in_flight.labels(budget.name).set(budget.used)
        metrics.beat(beat.worst_s())

    beat = Beat(admission.adapt, report_load)
    services = Services(
        settings=settings,
        store=store,
        ledger=Ledger(settings.data_dir / LEDGER),
        slot=slot,
        bundles=bundles,
        keys=Keys.read(settings.api_keys.get_secret_value(), settings.api_keys_file, rate=settings.key_rate),
        metrics=metrics,
        recorded=recorded,
        requests=RequestLog(settings.slow_ms, settings.access_log),
        tracing=Tracing(settings.trace_share, _version()) if settings.tracing == "otlp" else None,
        admission=admission,
        beat=beat,
        catalogue=catalogue,
    )

    async def follow_catalogue() -> None:
        try:
            await catalogue.check_file()
        except BadInput as e:
            log.error("%s The one before it stays.", e)
        with contextlib.suppress(StoreUnavailable):  # the copy stays; health says that the store is away
            await catalogue.follow(store)
            metrics.videos.set(len(catalogue))

    async def save_recorded() -> None:
        await anyio.to_thread.run_sync(recorded.save)

    try:
        await anyio.to_thread.run_sync(recorded.load)
        await bundles.start()
        await _admitted(store)
        await follow_catalogue()
        metrics.process.started(_version())
        closing = asyncio.Event()
        polls = [
            asyncio.create_task(_every(seconds, step, closing))
            for seconds, step in (
                (settings.poll_s, bundles.follow),
                (settings.poll_s, follow_catalogue),
                (SAVE_S, save_recorded),
            )
        ]
        report_load()  # who scrapes before the first report finds the series, too
        beat.start()
        try:
            yield services
        finally:
            beat.stop()
            closing.set()
            await asyncio.gather(*polls)
            await anyio.to_thread.run_sync(services.aside.close)
            await anyio.to_thread.run_sync(services.batches.close)
            await save_recorded()
    finally:
        if services.tracing is not None:
            await anyio.to_thread.run_sync(services.tracing.close)
        await store.close()


def create_app(services: Services) -> ASGIApp:
    """The HTTP surface over the services."""
    app = FastAPI(
        title="reelrank", version=_version(), description=DESCRIPTION, docs_url=None, redoc_url=None
    )
    app.router.redirect_slashes = False  # a redirect would repeat whatever `Host` the caller has sent
    app.state.services = services
    for part in (label, rerank, users, videos, models, health, feedback, rank, infer, metadata, page):
        app.include_router(part.router)
    errors.install(app)
    sections = (operations.SECTION, metarank_docs.SECTION, open_inference_docs.SECTION)
    document.install(app, services.slot, sections, keys=bool(services.keys))
    return Edge(Direct(app), services)


async def _admitted(store: Store) -> None:
    """A store that is away comes back by itself; a wrong password does not.

    Raises:
        BadInput: the store refuses our name and password, or they may not do what we need.
    """
    try:
        async with asyncio.timeout(ADMISSION_S):
            await store.videos_since("")
            await store.read("nobody")
    except TimeoutError:
        return
    except StoreUnavailable as e:
        if e.reason == "denied":
            raise BadInput(
                f"{e}. Check user and password in REELRANK_STORE, and that this user may run scripts and "
                "read and write keys that begin with `rr:`."
            ) from e


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
