"""What the page is made of: small, unchanged, and all from this service."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.conftest import ROOT
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import served

FOLDER = ROOT / "service" / "console"
VENDOR = FOLDER / "vendor"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())

MAX_BYTES = 300_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    root = tmp_path_factory.mktemp("bundles")
    tiny_bundle.write_root(root, tiny_bundle.FIRST)
    with served(root, MemoryStore(), root / "data") as http:
        yield http


@pytest.mark.parametrize("folder", [VENDOR, Path(__file__).parent / "axe"], ids=["page", "tests"])
def test_vendored_files_are_listed_with_licence_and_checksum(folder: Path) -> None:
    listed = json.loads((folder / "vendored.json").read_text())
    files = {entry["file"]: entry["sha256"] for entry in listed}
    files |= {entry["licence_file"]: entry["licence_sha256"] for entry in listed}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert found.pop("vendored.json")
    assert found == files
    assert {entry["licence"] for entry in listed} <= {"MIT", "Apache-2.0"} | (
        {"MPL-2.0"} if folder != VENDOR else set()
    )


def test_the_page_weighs_less_than_300_kilobytes() -> None:
    assert sum(path.stat().st_size for path in FILES if path.suffix not in (".json", ".LICENSE")) < MAX_BYTES


def test_every_file_is_served_under_the_policy(client: httpx2.Client) -> None:
    paths = ["console", *(f"console/{path.relative_to(FOLDER)}" for path in FILES)]
    kinds = {".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}
    for path in paths:
        reply = client.get(f"/{path}")
        assert reply.status_code == 200
        policy = reply.headers["content-security-policy"].split("; ")
        assert "default-src 'self'" in policy
        assert not [rule for rule in policy if "unsafe" in rule or "http" in rule or "data:" in rule]
        if kind := kinds.get(Path(path).suffix):
            assert reply.headers["content-type"].startswith(kind)


def test_links_of_the_page_are_relative_and_lead_to_its_files() -> None:
    page = (FOLDER / "index.html").read_text()
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert len(links) >= 4
    assert all((FOLDER.parent / link).is_file() for link in links)
    for path in FILES:
        if path.suffix == ".js":
            for name in re.findall(r'^import .* from "([^"]*)";$', path.read_text(), re.MULTILINE):
                assert (path.parent / name).is_file(), f"{path}: {name}"


@pytest.mark.parametrize(
    "path", ["../settings.py", "%2e%2e/settings.py", "/etc/passwd", "views", "%00", "x" * 5000]
)
def test_nothing_else_is_served(client: httpx2.Client, path: str) -> None:
    reply = client.get(f"/console/{path}")
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/problem+json"


def test_the_address_with_a_slash_leads_to_the_page(client: httpx2.Client) -> None:
    reply = client.get("/console/")
    assert (reply.status_code, reply.headers["location"]) == (307, "../console")


def test_the_page_can_be_turned_off(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, tiny_bundle.FIRST)
    with served(root, MemoryStore(), tmp_path / "data", console=False) as client:
        assert client.get("/console").status_code == 404
        assert client.get("/console/app.js").status_code == 404
