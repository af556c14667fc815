"""Spans reach a collector with the right parents, times and attributes; off, nothing of it is imported."""

from __future__ import annotations

import gzip
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import command, event, running, served

SLATE = {"user_id": "u", "candidates": [{"video_id": "v"}]}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """What an OTLP/HTTP endpoint has been sent."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        self.url = ""

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        (resource,) = {
            r.resource.SerializeToString(): r.resource for q in self.requests for r in q.resource_spans
        }.values()
        return {a.key: a.value.string_value for a in resource.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A real HTTP server for OTLP in protobuf."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.paths.append(self.path)
            collector.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        collector.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found


def attributes(span: Span) -> dict[str, str | int]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_a_request_is_a_span_with_its_stages_inside(
    bundles: Path, tmp_path: Path, collector: Collector
) -> None:
    options = {"tracing": "otlp", "trace_share": 1.0}
    with served(bundles, MemoryStore(), tmp_path, **options) as client:
        client.post("/rerank", json=SLATE, headers={"x-request-id": "id-1"}).raise_for_status()
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.resource()["service.name"] == "reelrank"
    *stages, whole = sorted(collector.spans(), key=lambda span: span.kind == Span.SPAN_KIND_SERVER)
    assert (whole.name, whole.parent_span_id) == ("POST /rerank", b"")
    assert attributes(whole) == {
        "http.request.method": "POST",
        "http.route": "/rerank",
        "http.response.status_code": 200,
        "reelrank.request_id": "id-1",
        "reelrank.model_version": tiny_bundle.FIRST,
    }
    stages.sort(key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in stages] == ["wait", "parse", "state", "inference", "encode", "rest"]
    assert {span.parent_span_id for span in stages} == {whole.span_id}
    assert {span.trace_id for span in stages} == {whole.trace_id}
    times = [t for span in stages for t in (span.start_time_unix_nano, span.end_time_unix_nano)]
    assert times == sorted(times)
    assert whole.start_time_unix_nano <= times[0]
    assert times[-1] <= whole.end_time_unix_nano


@pytest.mark.parametrize(("flags", "share", "spans"), [("01", 0.0, 7), ("00", 1.0, 0)])
def test_the_caller_decides_and_is_the_parent(
    bundles: Path, tmp_path: Path, collector: Collector, flags: str, share: float, spans: int
) -> None:
    with served(bundles, MemoryStore(), tmp_path, tracing="otlp", trace_share=share) as client:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}
        client.post("/rerank", json=SLATE, headers=headers).raise_for_status()
    found = collector.spans()
    assert len(found) == spans
    assert {span.trace_id.hex() for span in found} <= {TRACE}
    roots = [span for span in found if span.kind == Span.SPAN_KIND_SERVER]
    assert [span.parent_span_id.hex() for span in roots] == [PARENT] * (spans > 0)


def test_a_share_of_the_requests_is_sampled(bundles: Path, tmp_path: Path, collector: Collector) -> None:
    with served(bundles, MemoryStore(), tmp_path, tracing="otlp", trace_share=0.3) as client:
        for _ in range(200):
            client.get("/health/live")
    assert 20 < sum(span.kind == Span.SPAN_KIND_SERVER for span in collector.spans()) < 110


def test_a_refused_request_is_a_span_that_says_why(
    bundles: Path, tmp_path: Path, collector: Collector
) -> None:
    with served(bundles, MemoryStore(), tmp_path, tracing="otlp", trace_share=1.0) as client:
        client.get("/users/secret-user/sequence")
        client.post("/rerank", json=SLATE, headers={"x-deadline-ms": "0.0001"})
    refused, late = (s for s in collector.spans() if s.kind == Span.SPAN_KIND_SERVER)
    assert attributes(refused)["error.type"] == "unknown_user"
    assert attributes(late)["error.type"] == "deadline_exceeded"
    assert refused.status.code == late.status.code == 0  # 4xx is no fault of ours
    assert not any(b"secret-user" in request.SerializeToString() for request in collector.requests)


@pytest.mark.slow
def test_a_collector_that_is_away_costs_no_answer_and_ends_in_time(bundles: Path, tmp_path: Path) -> None:
    env = {
        "REELRANK_TRACING": "otlp",
        "REELRANK_TRACE_SHARE": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    }
    with running(bundles, tmp_path, **env) as service:
        with service.client() as client:
            client.post("/label", json=event()).raise_for_status()
        assert service.terminate() == 0


# --- off


@pytest.mark.slow
def test_off_nothing_of_it_is_imported(bundles: Path) -> None:
    """FastAPI brings OpenTelemetry's interface along, and the Redis client looks for it: both do nothing."""
    code = """
import sys
import service.app, service.commands.serve, service.server.worker, service.server.supervisor
made = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.proto")
sys.exit(",".join(name for name in sys.modules if name.startswith(made)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_without_the_extra_it_is_one_line_and_exit_code_2(bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry.exporter'] = None\n")
    options = {"REELRANK_TRACING": "otlp", "PYTHONPATH": str(tmp_path)}
    with command("serve", "--bundle", str(bundles), data_dir=tmp_path / "data", **options) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert [line for line in said.splitlines() if "reelrank[tracing]" in line] == said.splitlines()
