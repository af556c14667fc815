"""What every path has in common: problem documents, limits and headers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from tests.service.exchanges import JSON, is_problem
from tests.service.memory_store import MemoryStore
from tests.service.running import event, served

PATHS = ["/label", "/rerank"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"nope", 400),
        (b'{"user_id": "\xff"}', 400),
        (b"\xef\xbb\xbf{}", 400),
        (b"[" * 200_000, 400),
        (b'{"events":' * 50_000, 400),
        (b"9" * 6000, 422),
        (b"[" * 500 + b"]" * 500, 422),
        (b"[" * 50_000 + b"]" * 50_000, 422),
        (b'"\\ud800"', 422),
        (b'{"\\ud800": "\\ud800"}', 422),
        (b'{"user_id": "\\ud800", "candidates": [{"video_id": "\\udfff"}]}', 422),
        (b'{"weights": {"\\ud800": 1}, "user_id": "u", "candidates": [{"video_id": "v"}]}', 422),
        (b'[{"event_id": "\\ud800", "\\udc00": NaN}]', 422),
        (b"NaN", 422),
        (b"-Infinity", 422),
        (b"1e999", 422),
        (b"[[]]", 422),
        (b'{"user_id": 1e999}', 422),
        (b'{"user_id": ' + b"9" * 4000 + b"}", 422),
    ],
)
def test_bytes_that_make_no_sense_are_told_so(
    client: httpx2.Client, path: str, body: bytes, status: int
) -> None:
    assert is_problem(client.post(path, content=body, headers=JSON), status)


@pytest.mark.parametrize("path", [*PATHS, "/videos", "/users"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": "application/json", "content-encoding": "br"},
    ],
)
def test_other_content_types_and_encodings_are_not_read(
    client: httpx2.Client, path: str, headers: dict[str, str]
) -> None:
    method = "POST" if path in PATHS else "PUT"
    body = gzip.compress(b"{}") if "content-encoding" in headers else b"{}"
    assert is_problem(client.request(method, path, content=body, headers=headers), 415)


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", '; charset="UTF-8"', ";  Charset=utf8"])
def test_json_in_utf_8_may_say_so(client: httpx2.Client, user: str, charset: str) -> None:
    headers = {"content-type": "application/JSON" + charset}
    body = json.dumps(event(f"{user}-1", user))
    assert client.post("/label", content=body, headers=headers).status_code == 200


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(0, size, 1000):
        yield b" " * 1000


@pytest.mark.parametrize(("path", "method"), [("/label", "POST"), ("/rerank", "POST"), ("/videos", "PUT")])
def test_a_body_over_the_limit_is_refused_announced_or_not(
    bundles: Path, tmp_path: Path, path: str, method: str
) -> None:
    with served(bundles, MemoryStore(), tmp_path, max_body_bytes=5000) as client:
        assert is_problem(client.request(method, path, content=b" " * 5001, headers=JSON), 413)
        assert is_problem(client.request(method, path, content=chunks(6000), headers=JSON), 413)
        assert is_problem(client.request(method, path, content=chunks(5000), headers=JSON), 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/users/unknown-user/sequence", 404),
        ("GET", "/label", 405),
        ("DELETE", "/rerank", 405),
        ("POST", "/v1/models/20990101-00000000:activate", 404),
        ("POST", "/v1/models/..:activate", 404),
        ("POST", "/v1/models/nope:activate", 404),
        ("GET", "/users/%ff/sequence", 422),
        ("GET", "/users/%00/sequence", 422),
        ("GET", f"/users/{'x' * 257}/sequence", 422),
        ("DELETE", "/users/%ff", 422),
        ("BREW", "/label", 400),
    ],
)
def test_refusals_of_paths_are_problem_documents_too(
    client: httpx2.Client, method: str, path: str, status: int
) -> None:
    assert is_problem(client.request(method, path), status)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/label", "POST"), ("/v1/experiments", "GET, POST"), ("/v1/models/x:activate", "POST")],
)
def test_a_405_names_all_methods_of_the_path(client: httpx2.Client, path: str, allowed: str) -> None:
    assert client.request("PATCH", path).headers["allow"] == allowed


@pytest.mark.parametrize("bad", [b"", b"x" * 129, b"a\tb", b"\xe4"])
def test_a_request_id_that_could_harm_a_log_is_replaced(client: httpx2.Client, bad: bytes) -> None:
    got = client.get("/health/live", headers=[(b"x-request-id", bad)]).headers["x-request-id"]
    assert len(got) == 16


@pytest.mark.parametrize("user_id", ["a/b", "x/sequence", "ä ö?#%", "..", "名前"])
def test_any_id_can_be_in_a_path(client: httpx2.Client, user: str, user_id: str) -> None:
    whole = f"{user}-{user_id}"
    client.post("/label", json=event(f"{user}-1", whole)).raise_for_status()
    path = f"/users/{quote(whole, safe='')}"
    assert client.get(f"{path}/sequence").json()["user_id"] == whole
    assert client.delete(path).json()["known"] is True
    assert client.get(f"{path}/sequence").status_code == 404


def test_head_is_get_without_a_body_on_every_path(client: httpx2.Client) -> None:
    paths = [path for path, of in client.get("/openapi.json").json()["paths"].items() if "get" in of]
    assert len(paths) > 10
    for path in [*paths, "/docs", "/openapi.json", "/nope", "/label"]:
        get, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]
