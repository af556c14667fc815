"""The composition root of the HTTP service: where concrete classes are named and put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from functools import cache, partial
from typing import Final

import anyio.to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp

from models.errors import BadInput, StoreUnavailable
from models.runtime import Bundle
from service import package_version
from service.adapters.metarank import docs as metarank_docs
from service.adapters.metarank.routes import metarank_routes
from service.adapters.open_inference import docs as open_inference_docs
from service.adapters.open_inference.routes import open_inference_routes
from service.catalogue.catalogue import Catalogue
from service.endpoints.console import console_routes
from service.endpoints.experiments import experiment_routes
from service.endpoints.health import health_routes
from service.endpoints.keys import key_routes
from service.endpoints.label import label_routes
from service.endpoints.previews import preview_routes
from service.endpoints.rerank import rerank_routes
from service.endpoints.served_log import served_log_routes
from service.endpoints.users import user_routes
from service.endpoints.versions import version_routes
from service.endpoints.videos import video_routes
from service.http import errors
from service.http.auth import Keys
from service.http.fast_path import FastPathRouter
from service.http.openapi import document, operations, page
from service.http.request import RequestReader
from service.http.request_context import RequestContextMiddleware
from service.inference.background import BackgroundWorker
from service.inference.bundles import Bundles
from service.inference.gpu_batching import Batches
from service.inference.rollout import Rollout
from service.inference.serving_set import Serving
from service.inference.traffic_sample import TrafficSample
from service.overload.admission import Admission
from service.overload.event_loop_lag import EventLoopLagMonitor
from service.overload.spare import SpareCapacity
from service.periodic import repeating
from service.pipeline.label import LabelPipeline
from service.pipeline.logged import log_events, log_slate
from service.pipeline.metered import count_events, count_slate
from service.pipeline.ports import ServingSource
from service.pipeline.preview import NoSample, Previews
from service.pipeline.rerank import RerankPipeline
from service.pipeline.shadow import Shadow
from service.served_log.log import ServedLog
from service.services import Services
from service.settings import Settings
from service.state import GuardedStore
from service.state.breaker import State
from service.state.data_folder import DataFolder
from service.state.embedded import make_private_folder
from service.state.guarded import Calls
from service.state.health import POLICY_S, StoreHealth
from service.state.protocol import Store
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestLog
from service.telemetry.tracing import Tracing
from service.unlearning.ledger import FILE as LEDGER
from service.unlearning.ledger import Ledger

log = logging.getLogger("reelrank.app")

STORE_CHECK_S: Final = 1.0
"""How long the start waits for the store's answer to its credentials."""

SAVE_S: Final = 60.0
"""How often the traffic sample goes to the disk, besides at the end."""

DESCRIPTION = """Feedback in, labels out; candidates in, an ordered slate out.

Times are Unix milliseconds, durations are seconds, ids are opaque strings. Errors are RFC 9457 problem
documents. Every answer carries `X-Request-Id` and `Server-Timing`."""


@contextlib.asynccontextmanager
async def open_services(
    settings: Settings, store: Store, metrics: Metrics | None = None
) -> AsyncIterator[Services]:
    """Open everything a process needs, with a bundle loaded and the catalogue read; close it at the end.

    Args:
        settings: of the process.
        store: closed at the end too. It may be away; calls go through circuit breakers.
        metrics: of the process; by default new ones.

    Raises:
        BundleError: the bundle to start with cannot be used.
        BadInput: the API keys or the catalogue's file cannot be read, the store refuses our credentials, or
            spans are configured and cannot be made.
    """
    catalogue = Catalogue()
    if settings.catalogue is not None:
        catalogue = await anyio.to_thread.run_sync(Catalogue.from_file, settings.catalogue)
    metrics, admission = metrics or Metrics(), Admission(settings)
    batcher, background = Batches(), BackgroundWorker()
    sample = TrafficSample(settings.data_dir / "recorded.bin")
    with contextlib.suppress(BadInput):  # the ledger will say that it cannot be written
        make_private_folder(settings.data_dir)
    guarded = _guarded(store, metrics, settings)
    store_health = StoreHealth(guarded, metrics.report_store_risks)

    def on_bundle(bundle: Bundle) -> None:
        metrics.drift.serving(bundle.manifest)
        fields = {"version": bundle.manifest.version, "provider": bundle.provider}
        log.info("bundle loaded", extra=fields)

    serving_set = Serving(metrics.bundles, on_bundle)
    bundles = Bundles(
        settings.bundle,
        serving_set,
        settings.device,
        settings.gpu_memory_mib,
        rollouts={
            "split": Rollout.parse(settings.split, "REELRANK_SPLIT") if settings.split else None,
            "shadow": Rollout.parse(settings.shadow, "REELRANK_SHADOW") if settings.shadow else None,
        },
        sample=sample,
        metrics=metrics.bundles,
    )

    def report_load() -> None:
        for budget in admission.budgets():
            metrics.permits.labels(budget.name).set(budget.used)
        metrics.report_lag(lag.worst_s())

    lag = EventLoopLagMonitor(admission.tick, report_load)
    offload = anyio.to_thread.run_sync
    shadow = Shadow(background.try_submit, metrics.bundles)
    served_log = None
    if settings.log_dir is not None:
        served_log = ServedLog(settings.log_dir, settings.log_max_bytes, metrics.served_log)
    log_slates = () if served_log is None else (partial(log_slate, served_log),)
    log_accepted = () if served_log is None else (partial(log_events, served_log),)
    rerank = RerankPipeline(
        guarded,
        catalogue,
        serving_set,
        settings,
        capacity=admission.candidates,
        sampler=sample,
        batcher=batcher,
        offload=offload,
        observers=(partial(count_slate, metrics), shadow.observe_slate, *log_slates),
    )
    label = LabelPipeline(
        guarded,
        catalogue,
        serving_set,
        settings,
        steps=admission.streamed,
        sampler=sample,
        offload=offload,
        observers=(*log_accepted, partial(count_events, metrics), shadow.observe_events),
    )
    spare = SpareCapacity(admission.budgets()[:2])
    in_a_thread = settings.model_copy(update={"inline_candidates": 0, "inline_events": 0, "explore": None})

    def preview_rerank(serving: ServingSource) -> RerankPipeline:
        return RerankPipeline(
            guarded,
            catalogue,
            serving,
            in_a_thread,
            capacity=spare,
            sampler=NoSample(),
            batcher=batcher,
            offload=offload,
            observers=(),
        )

    def preview_label(serving: ServingSource) -> LabelPipeline:
        return LabelPipeline(
            guarded,
            catalogue,
            serving,
            in_a_thread,
            steps=admission.streamed,
            sampler=NoSample(),
            offload=offload,
            observers=(),
        )

    services = Services(
        settings=settings,
        store=guarded,
        store_health=store_health,
        ledger=Ledger(settings.data_dir / LEDGER),
        catalogue=catalogue,
        serving=serving_set,
        bundles=bundles,
        keys=Keys.read(settings.api_keys.get_secret_value(), settings.api_keys_file, rate=settings.key_rate),
        metrics=metrics,
        admission=admission,
        reader=RequestReader(settings, admission.bodies, lag),
        rerank=rerank,
        label=label,
        previews=Previews(serving_set, preview_rerank, preview_label),
        spare=spare,
        requests=RequestLog(settings.slow_ms, settings.access_log),
        tracing=Tracing(settings.trace_share, package_version()) if settings.tracing == "otlp" else None,
    )

    async def follow_catalogue() -> None:
        try:
            await catalogue.check_file()
        except BadInput as e:
            log.error("%s The one before it stays.", e)
        with contextlib.suppress(StoreUnavailable):  # the copy stays; health reports that the store is away
            await catalogue.follow(guarded)
            metrics.videos.set(len(catalogue))

    async def report_forget_waiting() -> None:
        if serving_set.version is None:  # no bundle is loaded
            return
        until_ms = serving_set.active().manifest.training.forgotten_until_ms
        try:
            waiting = await anyio.to_thread.run_sync(services.ledger.waiting, until_ms)
        except (BadInput, OSError) as e:
            log.error("%s The number of users who wait to be forgotten is not known.", e)
            return
        metrics.report_forget_waiting(*waiting)

    async def save_sample() -> None:
        await anyio.to_thread.run_sync(sample.save)

    try:
        await anyio.to_thread.run_sync(sample.load)
        await bundles.start()
        await _check_credentials(guarded)
        await store_health.check_policy()
        await follow_catalogue()
        await report_forget_waiting()
        metrics.process.started(package_version())
        report_load()  # so that a scrape before the first report finds the series, too
        lag.start()
        try:
            poll_s = settings.poll_s
            async with repeating(
                (poll_s, bundles.follow),
                (poll_s, follow_catalogue),
                (poll_s, report_forget_waiting),
                (SAVE_S, save_sample),
                (POLICY_S, store_health.check_policy),
            ):
                try:
                    yield services
                finally:
                    lag.stop()
                    bundles.stop_loading()
        finally:
            await anyio.to_thread.run_sync(background.close)
            await anyio.to_thread.run_sync(batcher.close)
            await save_sample()
    finally:
        if served_log is not None:
            await anyio.to_thread.run_sync(served_log.close)
        if services.tracing is not None:
            await anyio.to_thread.run_sync(services.tracing.close)
        await guarded.close()


def create_app(services: Services) -> ASGIApp:
    """Return the HTTP surface over the services."""
    app = FastAPI(
        title="reelrank", version=package_version(), description=DESCRIPTION, docs_url=None, redoc_url=None
    )
    app.router.redirect_slashes = False  # a redirect would repeat whatever `Host` the caller has sent
    label, rerank = label_routes(services), rerank_routes(services)
    for router in (
        label,
        rerank,
        user_routes(services),
        video_routes(services),
        version_routes(services),
        experiment_routes(services),
        preview_routes(services),
        served_log_routes(services),
        key_routes(services),
        health_routes(services),
        metarank_routes(services),
        open_inference_routes(services),
        page.router,
    ):
        app.include_router(router)
    if services.settings.console:
        app.include_router(console_routes())
    errors.install(app)
    sections = (operations.SECTION, metarank_docs.SECTION, open_inference_docs.SECTION)
    document.install(app, services.serving, sections, keys=bool(services.keys))
    return RequestContextMiddleware(
        FastPathRouter(app, label, rerank),
        metrics=services.metrics,
        log=services.requests,
        tracing=services.tracing,
    )


def _guarded(store: Store, metrics: Metrics, settings: Settings) -> GuardedStore:
    """The store behind circuit breakers, timed and counted; an embedded one with a look at its folder."""
    folder = DataFolder(settings.data_dir) if settings.embedded_store else None

    seconds = cache(metrics.store_seconds.labels)

    away: set[Calls] = set()

    def on_change(calls: Calls, state: State) -> None:
        metrics.report_breaker(calls, state)
        if state == "half_open" or (state == "open" and calls in away):
            return  # a probe, twice a second while the store is away
        (away.discard if state == "closed" else away.add)(calls)
        log.warning("circuit of the store changed", extra={"calls": calls, "state": state})

    return GuardedStore(
        store,
        failed=lambda calls, reason: metrics.store_failures.labels(calls, reason).inc(),
        changed=on_change,
        timed=lambda operation, took_s: seconds(operation).observe(took_s),
        check_disk=(lambda: None) if folder is None else folder.check,
    )


async def _check_credentials(store: Store) -> None:
    """A store that is away comes back by itself; a wrong password does not.

    Raises:
        BadInput: the store refuses our name and password, or they lack a right that we need.
    """
    try:
        async with asyncio.timeout(STORE_CHECK_S):
            await store.videos_since("")
            await store.read("probe")
    except TimeoutError:
        return
    except StoreUnavailable as e:
        if e.reason == "denied":
            raise BadInput(
                f"{e}. Check user and password in REELRANK_STORE, and that this user may run scripts and "
                "read and write keys that begin with `rr:`."
            ) from e
