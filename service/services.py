"""What a process is made of: one object, put together in `service.app`."""

from __future__ import annotations

from dataclasses import dataclass

from service.catalogue.catalogue import Catalogue
from service.http.auth import Keys
from service.http.request import RequestReader
from service.inference.bundles import Bundles
from service.inference.serving_set import Serving
from service.overload.admission import Admission
from service.overload.spare import SpareCapacity
from service.pipeline.label import LabelPipeline
from service.pipeline.preview import Previews
from service.pipeline.rerank import RerankPipeline
from service.settings import Settings
from service.state.health import StoreHealth
from service.state.protocol import Store
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestLog
from service.telemetry.tracing import Tracing
from service.unlearning.ledger import Ledger


@dataclass(slots=True)
class Services:
    """The parts of one process."""

    settings: Settings
    store: Store
    store_health: StoreHealth
    ledger: Ledger
    catalogue: Catalogue
    serving: Serving
    bundles: Bundles
    keys: Keys
    metrics: Metrics
    admission: Admission
    reader: RequestReader
    rerank: RerankPipeline
    label: LabelPipeline
    previews: Previews
    spare: SpareCapacity
    requests: RequestLog
    tracing: Tracing | None
    """`None` when it is off."""
    draining: bool = False
    """Set at once on SIGTERM: not ready any more, streams end after what they have read."""
