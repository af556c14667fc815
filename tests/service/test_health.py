"""Health, metrics and the document of the API."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from pathlib import Path

import httpx2
import pytest

from service.telemetry.trace import STAGES
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import event, served


class Frozen(MemoryStore):
    async def ping(self) -> None:
        await asyncio.sleep(3600)


def test_ready_names_the_bundle_that_answers(client: httpx2.Client) -> None:
    want = {"status": "ready", "model_version": tiny_bundle.FIRST, "degraded": []}
    assert client.get("/health/ready").json() == want


def test_a_store_that_is_away_degrades_readiness_and_leaves_life_alone(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, Frozen(), tmp_path) as client:
        assert client.get("/health/live").json()["status"] == "live"
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["degraded"]) == (200, ["store"])


def test_metrics_count_requests_events_and_stages(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path) as client:
        client.post("/label", json=[event("e1"), event("e2"), event("e3", duration_s=-1)])
        client.post("/label", json=event("e1"))
        client.post("/rerank", json={"user_id": "u", "candidates": [{"video_id": "v"}]})
        client.get("/users/a/b/c/sequence")
        client.request("PUT", "/some/path")
        text = client.get("/metrics").text
    for line in (
        'reelrank_requests_total{method="POST",route="/label",status="200"} 2.0',
        'reelrank_requests_total{method="GET",route="/users/{user_id}/sequence",status="404"} 1.0',
        'reelrank_requests_total{method="any",route="unmatched",status="404"} 1.0',
        'reelrank_events_total{outcome="accepted"} 2.0',
        'reelrank_events_total{outcome="duplicate"} 1.0',
        'reelrank_events_total{outcome="invalid"} 1.0',
        "reelrank_candidates_total 1.0",
        f'reelrank_bundle_info{{provider="CPUExecutionProvider",version="{tiny_bundle.FIRST}"}} 1.0',
        *(
            f'reelrank_request_seconds_count{{route="/rerank",stage="{stage}"}} 1.0'
            for stage in (*STAGES, "total")
        ),
    ):
        assert line in text.splitlines()
    by_stage = dict(re.findall(r'reelrank_request_seconds_sum{route="/rerank",stage="(\w+)"} (\S+)', text))
    total = float(by_stage.pop("total"))
    assert set(by_stage) == set(STAGES)
    assert sum(map(float, by_stage.values())) == pytest.approx(total)


def test_the_openapi_document_is_whole_and_has_examples(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    referenced = set(re.findall(r'"#/components/schemas/(\w+)"', client.get("/openapi.json").text))
    assert referenced <= set(document["components"]["schemas"])
    for path in ("/label", "/rerank", "/videos", "/users"):
        (operation,) = document["paths"][path].values()
        assert operation["requestBody"]["content"]["application/json"]["examples"]
        assert operation["responses"]["200"]["content"]["application/json"]["example"]
    event_schema = document["components"]["schemas"]["FeedbackEvent"]["properties"]
    assert event_schema["watch_time_s"]["minimum"] == 0
    assert event_schema["event_id"]["anyOf"][0]["maxLength"] == 256


def test_the_examples_of_the_document_are_answered(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path) as client:
        document = client.get("/openapi.json").json()
        for path in ("/label", "/rerank", "/videos", "/users"):
            ((method, operation),) = document["paths"][path].items()
            for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
                reply = client.request(method.upper(), path, json=example["value"])
                assert reply.status_code == 200, reply.text


def test_docs_are_a_page_that_loads_nothing_from_elsewhere(client: httpx2.Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in page.text
    assert "://" not in page.text
    assert not re.search(r"<(link|img|iframe|object|embed)|<script [^>]*src|@import|url\(", page.text)


def test_the_policy_of_the_docs_lets_their_own_script_run_and_nothing_else(client: httpx2.Client) -> None:
    page = client.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"innerHTML|outerHTML|document\.write|eval\(", page.text)
