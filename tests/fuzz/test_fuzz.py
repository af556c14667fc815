"""The service keeps to its own description. `python -m tests.fuzz` is the same, for longer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fuzz.broken import look, send_broken
from tests.fuzz.contract import check
from tests.fuzz.targets import Target, targets
from tests.fuzz.wire import send_changed, statuses
from tests.service import tiny_bundle
from tests.service.running import Service, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real program, whose versions may be changed."""
    bundles = tmp_path_factory.mktemp("bundles")
    tiny_bundle.write_root(bundles, tiny_bundle.FIRST, tiny_bundle.SECOND)
    with running(bundles, tmp_path_factory.mktemp("data")) as started:
        yield started


@pytest.fixture(scope="module")
def document(service: Service) -> Any:
    """`/openapi.json`."""
    with service.client() as client:
        return client.get("/openapi.json").json()


def test_every_check_of_schemathesis_passes(service: Service) -> None:
    done = check(service.url, examples=2, timeout_s=240)
    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated
    assert int(generated[1]) > 1000
    assert re.search(r"(\d+) selected / \1 total", done.stdout)


def test_broken_requests_are_refused(service: Service, document: Any) -> None:
    statuses = send_broken(service.url, document, 1500, 1)
    assert sum(statuses.values()) >= 1500
    assert {200, 400, 404, 405, 415, 422} <= set(statuses)


def test_no_bytes_on_a_connection_make_a_fault(service: Service) -> None:
    statuses = send_changed(service.url, 300, 1)
    assert {200, 400, 404, 405, 413, 422, 431} <= set(statuses)
    assert service.process.stderr is not None
    assert "Traceback" not in service.process.stderr.read()


def test_every_example_of_the_description_is_accepted(service: Service, document: Any) -> None:
    refused = []
    with service.client() as client:
        for target in targets(document):
            reply = client.request(
                target.method, target.path, content=target.body, headers=list(target.headers)
            )
            absent = reply.status_code == 404 and re.search(
                r"/(u1|2026\d{4}-\d{8})\b|:rollback|/v1/experiments", target.path
            )
            if reply.status_code != 200 and not absent:
                refused.append((target, reply.text))
    assert not refused


@pytest.mark.parametrize(
    ("status", "kind", "content"),
    [
        (500, "application/problem+json", b'{"status": 500}'),
        (503, "application/problem+json", b'{"status": 503}'),
        (404, "text/plain", b"Not Found"),
        (404, "application/problem+json", b'{"status": 400}'),
        (200, "application/json", b'{"score": NaN'),
    ],
)
def test_an_answer_that_may_not_be_is_found(status: int, kind: str, content: bytes) -> None:
    request = Target("POST", "/label", (), b"{}")
    with pytest.raises((AssertionError, ValueError)):
        look(request, status, kind, content)
    look(request, 404, "application/problem+json; charset=utf-8", b'{"status": 404}')


@pytest.mark.parametrize("answer", [b"500 Internal", b"503 Service", b"404 Not Found"])
def test_an_answer_that_may_not_be_is_found_on_a_connection(answer: bytes) -> None:
    good = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\r\n"
    assert statuses(b"", good * 2) == [400, 400]
    with pytest.raises(AssertionError):
        statuses(b"", good + b"HTTP/1.1 %s\r\ncontent-type: text/plain\r\n\r\n" % answer)


def test_the_description_names_what_the_bundle_has(document: Any) -> None:
    schemas = document["components"]["schemas"]
    (weights, _) = schemas["RerankRequest"]["properties"]["weights"]["anyOf"]
    assert set(weights["properties"]) == {"watch_time", "interest"}
    assert set(schemas["UserProfile"]["properties"]["profile"]["properties"]) == {"age", "city"}


def test_every_reference_of_the_description_leads_somewhere(document: Any) -> None:
    references = re.findall(r'"(?:\$ref|operationRef)": "#/([^"]+)"', json.dumps(document))
    assert len(references) > 50
    for reference in references:
        target = document
        for part in reference.split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
