"""What the handlers are given: one object a process, made in `service.app`."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from service.catalogue.catalogue import Catalogue
from service.http.auth import Keys
from service.inference.background import Aside
from service.inference.bundles import Bundles
from service.inference.gpu_batching import Batches
from service.inference.serving_set import Slot
from service.inference.traffic_sample import Recorded
from service.overload.admission import Admission
from service.overload.event_loop_lag import Beat
from service.settings import Settings
from service.state.protocol import Store
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestLog
from service.telemetry.trace import Trace
from service.telemetry.tracing import Tracing
from service.unlearning.ledger import Ledger


@dataclass(slots=True)
class Services:
    """Everything a request may need."""

    settings: Settings
    store: Store
    ledger: Ledger
    slot: Slot
    bundles: Bundles
    keys: Keys
    metrics: Metrics
    recorded: Recorded
    admission: Admission
    beat: Beat
    requests: RequestLog
    tracing: Tracing | None = None
    """`None` when it is off."""
    catalogue: Catalogue = field(default_factory=Catalogue)
    batches: Batches = field(default_factory=Batches)
    aside: Aside = field(default_factory=Aside)
    draining: bool = False
    """Set at once on SIGTERM: not ready any more, streams end after what they have read."""


def services_of(request: Request) -> Services:
    """The process' services."""
    services: Services = request.app.state.services
    return services


def trace_of(request: Request) -> Trace:
    """The request's stage times; `service.http.request_context` has put them there."""
    trace: Trace = request.scope["reelrank.trace"]
    return trace
