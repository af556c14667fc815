"""Published numbers are what documents say: each is a literal here, beside the phrase that publishes it.

Tests elsewhere import these constants, so a changed value would pass them. It does not pass here.
"""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from tests.conftest import ROOT
from training.experiments.significance import SIGNIFICANT
from training.labels import D2Q

SERVICE = "service/README.md"
SECURITY = "SECURITY.md"

PUBLISHED = [
    (SERVICE, "costs its candidates plus 100", "service.overload.admission.SLATE_COST", 100),
    (SERVICE, "its events plus 20", "service.overload.admission.LABEL_COST", 20),
    (SERVICE, "at most 70 % of the time it has left", "service.overload.budget.DEADLINE_SHARE", 0.7),
    (SERVICE, "2,400 candidates or", "service.overload.admission.CANDIDATES_FLOOR", 2_400),
    (SERVICE, "960 events are admitted", "service.overload.admission.EVENTS_FLOOR", 960),
    (SERVICE, "weight 0.3", "service.overload.service_time.GAIN", 0.3),
    (SERVICE, "of 20 answers", "service.overload.service_time.WINDOW_ANSWERS", 20),
    (SERVICE, "or 0.25 s", "service.overload.service_time.WINDOW_S", 0.25),
    (SERVICE, "at least 5 answers", "service.overload.service_time.LEAST_ANSWERS", 5),
    (SERVICE, "more than 80 % of it, else CPU", "service.overload.service_time.BUSY_SHARE", 0.8),
    (SERVICE, "grows by half each window", "service.overload.service_time.SLOWER", 1.5),
    (SERVICE, "For 1 s after a slate", "service.overload.admission.SLATES_SEEN_S", 1.0),
    (SERVICE, "at most 8 times in flight", "service.overload.budget.FAIRNESS", 8),
    (SERVICE, "in steps of 500", "service.pipeline.label.STEP", 500),
    (SERVICE, "half of the remaining deadline", "service.pipeline.rerank.STATE_SHARE", 0.5),
    (SERVICE, "After 5 failures", "service.state.breaker.FAILURES", 5),
    (SERVICE, "among the last 10 calls", "service.state.breaker.WINDOW", 10),
    (SERVICE, "every 0.5 s one call probes", "service.state.breaker.OPEN_S", 0.5),
    (SERVICE, "more than 300 s in the future", "service.pipeline.validation.MAX_AHEAD_MS", 300_000),
    (SERVICE, "More than 128 users", "service.state.recording.MAX_USERS", 128),
    (SERVICE, "or 500 events", "service.state.recording.MAX_EVENTS", 500),
    (SERVICE, "writes wait up to 2 s", "service.state.cluster.RETRY_WINDOW_S", 2.0),
    (SERVICE, "is 503 after 200 ms", "service.state.replicated.WAIT_MS", 200),
    (SERVICE, "does not read its reply for 30 s", "service.server.sockets.UNREAD_MS", 30_000),
    (SERVICE, "idle for 75 s", "service.server.worker.KEEP_ALIVE_S", 75),
    (SERVICE, "for 10 times as long", "service.endpoints.label_stream.BLANK_TIMEOUTS", 10),
    (SERVICE, "all but 512", "service.server.descriptors.RESERVED", 512),
    (SERVICE, "pauses that double up to 5 s", "service.server.back_off.LONGEST_PAUSE_S", 5.0),
    (SERVICE, "more than 8 times in a row", "service.server.store_supervisor.MAX_QUICK_DEATHS", 8),
    (SERVICE, "each time within 10 s", "service.server.back_off.QUICK_S", 10.0),
    (SERVICE, "head may have 64 KiB", "service.server.http_protocol.MAX_HEAD_BYTES", 65_536),
    (SERVICE, "beyond 200,000 arrays", "service.pipeline.decoding.MAX_CONTAINERS", 200_000),
    (SERVICE, "cut at 1,000 characters", "service.wire.MAX_TEXT", 1000),
    (SERVICE, "in a queue of 64", "service.inference.background.QUEUE_SIZE", 64),
    (SERVICE, "rotates at 64 MiB", "service.served_log.log.FILE_BYTES", 64 * 2**20),
    (SERVICE, "at most a quarter of a core", "service.served_log.log.COOLDOWN_RATIO", 3.0),
    (SERVICE, "with a queue of 256", "service.served_log.log.QUEUE_SIZE", 256),
    (SERVICE, "at most a tenth of a core", "service.inference.background.COOLDOWN_RATIO", 9.0),
    (SERVICE, "up to 64 recent slates", "service.inference.traffic_sample.CAPACITY", 64),
    (SERVICE, "Up to 16 values per kind", "service.telemetry.drift.SAMPLED", 16),
    (SERVICE, "the newest 20,000", "service.telemetry.drift.WINDOW", 20_000),
    (SERVICE, "below 1,000 values", "service.telemetry.drift.MIN_VALUES", 1_000),
    (SERVICE, "at most five a second", "service.telemetry.line_limiter.LINES_PER_S", 5.0),
    (SECURITY, "one NDJSON line (64 KiB)", "service.pipeline.label_query.MAX_LINE_BYTES", 65_536),
    (
        "training/experiments/templates/_macros.md.j2",
        "",
        "training.experiments.significance.SIGNIFICANT",
        0.05,
    ),
]
"""Document, the phrase that publishes the number, the constant, its value."""


def test_the_marks_of_reports_and_the_smallest_group_are_as_published() -> None:
    assert SIGNIFICANT == 0.05
    assert "p < 0.05" in text_of("training/reports/watch-time-kuairand-pure/report.md")
    assert inspect.signature(D2Q).parameters["min_rows"].default == 50
    assert "fewer than 50 exposures" in text_of("training/README.md")


def text_of(document: str) -> str:
    """The document with its line breaks as spaces, as a reader sees it."""
    return re.sub(r"\s+", " ", (ROOT / document).read_text())


@pytest.mark.parametrize(
    ("document", "phrase", "constant", "value"), PUBLISHED, ids=[p[2] for p in PUBLISHED]
)
def test_a_published_number_is_what_the_code_uses(
    document: str, phrase: str, constant: str, value: float
) -> None:
    module, _, name = constant.rpartition(".")
    assert getattr(importlib.import_module(module), name) == value
    assert phrase in text_of(document)
