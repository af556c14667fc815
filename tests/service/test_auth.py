"""API keys: who gets in, and where to."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx2
import pytest
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr

from models.errors import BadInput, Forbidden, Unauthorized
from service.app import create_app, open_services
from service.http.auth import RIGHTS, Keys
from service.settings import Settings
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import event, served

KEYS = "l:label, r:rerank, d:read, a:admin, all:label+rerank+read+admin"

NEEDS = [
    ("POST", "/label", "label"),
    ("PUT", "/videos", "label"),
    ("PUT", "/users", "label"),
    ("POST", "/rerank", "rerank"),
    ("GET", "/users/u/sequence", "read"),
    ("GET", "/v1/models", "read"),
    ("GET", "/v1/models/x", "read"),
    ("GET", "/metrics", "read"),
    ("GET", "/v1/slates", "read"),
    ("GET", "/v1/events", "read"),
    ("GET", "/v1/reports", "read"),
    ("POST", "/v1/preview/rerank", "read"),
    ("POST", "/v1/preview/influence", "read"),
    ("POST", "/v1/preview/label", "read"),
    ("DELETE", "/users/u", "admin"),
    ("POST", f"/v1/models/{tiny_bundle.FIRST}:activate", "admin"),
    ("POST", "/v1/models:rollback", "admin"),
]


def test_each_path_needs_its_right(bundles: Path, tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, tiny_bundle.FIRST)
    with served(root, MemoryStore(), tmp_path, api_keys=KEYS) as client:
        for method, path, right in NEEDS:
            assert client.request(method, path).status_code == 401
            for key, of_key in (("l", "label"), ("r", "rerank"), ("d", "read"), ("a", "admin")):
                status = client.request(method, path, headers={"authorization": f"Bearer {key}"}).status_code
                assert (status == 403) == (of_key != right), (method, path, key, status)
                assert status != 401
        for path in ("/health/live", "/health/ready", "/openapi.json", "/docs"):
            assert client.get(path).status_code == 200


OPEN = {
    *("/docs", "/openapi.json", "/health", "/health/live", "/health/ready"),
    *("/console", "/console/", "/console/x"),
    *("/v2/health/live", "/v2/health/ready", "/v2/models/x/ready", "/v2/models/x/versions/x/ready"),
}
"""Open to every caller, because probes have no keys, nor has a page that asks for one: how it is, and what it
can do. Nothing of a user."""


def test_a_route_asks_for_a_key_unless_it_is_listed_here(bundles: Path, tmp_path: Path) -> None:
    settings = Settings.read(bundle=bundles, data_dir=tmp_path, api_keys=SecretStr(KEYS))
    statuses: dict[tuple[str, str], int] = {}

    async def ask() -> None:
        async with open_services(settings, MemoryStore()) as services:
            app = create_app(services)
            routes = list(iter_route_contexts(app._app._app.routes))  # type: ignore[attr-defined]
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                for route in routes:
                    path = re.sub(r"\{[^}]*\}", "x", route.path or "")
                    for method in route.methods or ():
                        statuses[method, path] = (await client.request(method, path)).status_code

    asyncio.run(ask())
    assert {(method, re.sub("/u(?=/|$)", "/x", path)) for method, path, _ in NEEDS if ":" not in path} <= set(
        statuses
    )
    assert {path for (_, path), status in statuses.items() if status != 401} <= OPEN


def test_a_key_that_is_right_lets_pass(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, api_keys=KEYS) as client:
        headers = {"authorization": "bearer all"}
        assert client.post("/label", json=event(), headers=headers).status_code == 200
        refused = client.post("/label", json=event())
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.headers["content-type"] == "application/problem+json"
        assert client.get("/openapi.json").json()["security"] == [{"key": []}]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer nope", "Basic all", "all"])
def test_anything_but_a_known_key_is_nobody(header: str | None) -> None:
    with pytest.raises(Unauthorized):
        Keys.read(KEYS, None).check(header, "label")


def test_a_key_may_hold_colons_and_has_exactly_its_rights() -> None:
    keys = Keys.read("a:b:c:label+read", None)
    keys.check("Bearer a:b:c", "label")
    for right in set(RIGHTS) - {"label", "read"}:
        with pytest.raises(Forbidden):
            keys.check("Bearer a:b:c", right)


def test_keys_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nsecret:label  # the importer\n\nother:read+admin\n")
    keys = Keys.read("", file)
    keys.check("Bearer secret", "label")
    keys.check("Bearer other", "admin")
    assert bool(keys)
    assert not Keys.read("", None)


@pytest.mark.parametrize("text", ["secret", "secret:", ":label", "secret:label+root", "ok:read,secret:all"])
def test_an_entry_that_is_none_is_refused_without_telling_it(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        Keys.read(text, None)
    assert "secret" not in str(refused.value)


def test_a_missing_file_of_keys_is_not_no_keys(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        Keys.read("", tmp_path / "nope")


def test_without_keys_everybody_may(client: httpx2.Client) -> None:
    assert client.get("/metrics").status_code == 200
