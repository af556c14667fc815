"""The public surface, line by line: what each status, header and kind of id means, on two workers.

Each line of the conventions and of the table of paths is one test here, unless it is one of the guarantees
beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service import tiny_bundle
from tests.service.exchanges import JSON, is_problem
from tests.service.running import NOW_MS, event, running
from tests.service.tiny_bundle import FIRST, SECOND

pytestmark = pytest.mark.slow

KEYS = "all:label+rerank+read+admin, few:label@0.01, reader:read"
SLATE = {"user_id": "u", "candidates": [{"video_id": "v1"}]}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A service of one's own, with keys, small limits and no store; asked with the key that may do all."""
    folder = tmp_path_factory.mktemp("keyed")
    tiny_bundle.write_root(folder / "bundles", FIRST)
    env = {
        "REELRANK_API_KEYS": KEYS,
        "REELRANK_STORE": "redis://127.0.0.1:1",
        "REELRANK_MAX_BODY_BYTES": "20000",
        "REELRANK_MAX_CANDIDATES": "3",
        "REELRANK_MAX_EVENTS": "4",
    }
    with (
        running(folder / "bundles", folder / "data", **env) as service,
        service.client(headers={"authorization": "Bearer all"}) as client,
    ):
        yield client


# --- statuses


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 3000])
def test_400_is_a_body_that_is_no_json_or_no_utf_8(keyed: httpx2.Client, body: bytes) -> None:
    for path in ("/label", "/rerank"):
        assert is_problem(keyed.post(path, content=body, headers=JSON), 400)


def test_401_is_no_key_and_403_a_key_without_the_right(keyed: httpx2.Client) -> None:
    for authorization in ("", "Bearer unknown", "Basic all", "all"):
        reply = keyed.post("/rerank", json=SLATE, headers={"authorization": authorization})
        assert is_problem(reply, 401)
        assert reply.headers["www-authenticate"] == "Bearer"
    assert is_problem(keyed.post("/rerank", json=SLATE, headers={"authorization": "Bearer reader"}), 403)
    assert is_problem(keyed.post("/v1/models:rollback", headers={"authorization": "Bearer reader"}), 403)
    assert keyed.get("/v1/models", headers={"authorization": "bearer reader"}).status_code == 200


def test_404_is_an_unknown_user_version_or_path(pair: httpx2.Client) -> None:
    for path in ("/users/unknown-user/sequence", "/nope", "/v2/models/nope"):
        reply = pair.get(path)
        assert reply.status_code == 404
        assert is_problem(reply, 404)
    assert is_problem(pair.post("/v1/models/20990101-00000000:activate"), 404)


def test_409_is_an_event_id_of_another_user_or_video(
    pair: httpx2.Client, new_user: Callable[[], str]
) -> None:
    user, other = new_user(), new_user()
    pair.post("/label", json=event(f"{user}-1", user)).raise_for_status()
    for contradiction in (event(f"{user}-1", other), event(f"{user}-1", user, video_id="v2")):
        reply = pair.post("/label", json=contradiction)
        assert is_problem(reply, 409)
        assert reply.json()["rejected"][0]["code"] == "conflict"
    both = pair.post("/label", json=[event(f"{user}-1", other), event(f"{other}-1", other)]).json()
    assert (both["accepted"], [r["index"] for r in both["rejected"]]) == (1, [0])
    assert is_problem(pair.post("/label", json=[event(f"{user}-1", other), {}]), 422)


def test_413_is_a_body_over_the_limit_announced_or_chunked(keyed: httpx2.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    for content in (b" " * 20_001, chunks()):
        assert is_problem(keyed.post("/label", content=content, headers=JSON), 413)
    assert is_problem(keyed.post("/label", content=b" " * 20_000, headers=JSON), 400)


def test_415_is_another_content_type(keyed: httpx2.Client) -> None:
    for kind in ("text/plain", "multipart/form-data", "application/json; charset=latin-1"):
        assert is_problem(keyed.post("/rerank", content=b"{}", headers={"content-type": kind}), 415)
    assert is_problem(keyed.post("/rerank", content=b"{}"), 415)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/label", event(watch_time_s=-1.0)),
        ("/label", event(unknown_member=1)),
        ("/label", event(duration_s="24")),
        ("/label", [event(f"e{i}") for i in range(5)]),
        ("/label?labels=nope", event()),
        ("/label?store=perhaps", event()),
        ("/rerank", SLATE | {"candidates": []}),
        ("/rerank", SLATE | {"candidates": [{"video_id": f"v{i}"} for i in range(4)]}),
        ("/rerank", SLATE | {"top_k": 0}),
        ("/rerank", SLATE | {"weights": {"nope": 1.0}}),
        ("/rerank", SLATE | {"nope": 1}),
    ],
)
def test_422_is_a_value_that_breaks_its_rule_and_errors_name_it(
    keyed: httpx2.Client, path: str, value: object
) -> None:
    reply = keyed.post(path, json=value)
    assert is_problem(reply, 422)
    assert [set(error) for error in reply.json()["errors"]] == [{"loc", "msg"}]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_422_is_a_number_that_is_none(keyed: httpx2.Client, number: bytes) -> None:
    body = json.dumps(event()).encode().replace(b"12.0", number)
    assert is_problem(keyed.post("/label", content=body, headers=JSON), 422)


def test_429_says_when_to_come_back(keyed: httpx2.Client) -> None:
    few = {"authorization": "Bearer few"}
    replies = [keyed.post("/label?store=false", json=event(), headers=few) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 429, 429]
    assert is_problem(replies[1], 429)
    assert int(replies[1].headers["retry-after"]) >= 1


def test_503_is_no_store_to_keep_an_event_and_says_when_to_come_back(keyed: httpx2.Client) -> None:
    for method, path, value in (
        ("POST", "/label", event()),
        ("PUT", "/videos", [{"video_id": "v"}]),
        ("PUT", "/users", [{"user_id": "u", "profile": {}}]),
        ("DELETE", "/users/u", None),
    ):
        reply = keyed.request(method, path, json=value)
        assert is_problem(reply, 503), path
        assert int(reply.headers["retry-after"]) >= 1


def test_503_is_no_bundle_yet_and_life_goes_on(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "bundles" / FIRST, FIRST)  # and not promoted
    with running(tmp_path / "bundles", tmp_path / "data") as service, service.client() as client:
        assert client.get("/health/live").json()["status"] == "live"
        for reply in (client.get("/health/ready"), client.post("/rerank", json=SLATE)):
            assert is_problem(reply, 503)
            assert int(reply.headers["retry-after"]) >= 1


# --- headers


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health/live"), ("GET", "/nope"), ("POST", "/label"), ("DELETE", "/label")]
)
def test_every_answer_has_its_request_id_and_server_timing(
    pair: httpx2.Client, method: str, path: str
) -> None:
    reply = pair.request(method, path, headers={"x-request-id": "mine"})
    assert reply.headers["x-request-id"] == "mine"
    assert len(pair.request(method, path).headers["x-request-id"]) == 16
    stages = dict(part.split(";dur=") for part in reply.headers["server-timing"].split(", "))
    assert list(stages) == ["wait", "parse", "state", "inference", "encode", "rest", "total"]
    assert sum(Decimal(stages[name]) for name in list(stages)[:-1]) == Decimal(stages["total"]) > 0
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"


# --- ids


@pytest.mark.parametrize("id_", ["x", "é" * 128, "a/b c?#%", "0", 0, 7, 2**63, 10**30, -5])
def test_an_id_is_a_string_of_1_to_256_bytes_or_an_integer(
    pair: httpx2.Client, new_user: Callable[[], str], id_: str | int
) -> None:
    user = new_user()
    sent = event(f"{user}-1", user, video_id=id_, session_id=id_)
    assert pair.post("/label", json=sent).json()["labels"][0]["video_id"] == str(id_)
    (held,) = pair.get(f"/users/{user}/sequence").json()["events"]
    assert (held["video_id"], held["session_id"]) == (str(id_), str(id_))
    slate = {"request_id": id_, "user_id": id_, "candidates": [{"video_id": id_}]}
    reply = pair.post("/rerank", json=slate, headers={"x-deadline-ms": "20000"}).json()
    assert (reply["request_id"], reply["items"][0]["video_id"]) == (str(id_), str(id_))


@pytest.mark.parametrize("id_", ["", "é" * 129, "a\x00b", "a\nb", "\x7f", None, 1.5, True, [], {}])
def test_what_is_no_id_is_refused(pair: httpx2.Client, id_: object) -> None:
    assert is_problem(pair.post("/label", json=event() | {"user_id": id_}), 422)
    assert is_problem(pair.post("/rerank", json=SLATE | {"user_id": id_}), 422)


def test_an_integer_and_its_decimal_string_are_one_user(pair: httpx2.Client) -> None:
    sent: dict[str, Any] = event("integer-1") | {"user_id": 90_210}
    pair.post("/label", json=sent).raise_for_status()
    assert pair.post("/label", json=sent | {"user_id": "90210"}).json()["duplicates"] == 1
    assert pair.get("/users/90210/sequence").json()["user_id"] == "90210"


# --- the table of paths


def test_every_path_answers_what_it_is_for(pair: httpx2.Client, new_user: Callable[[], str]) -> None:
    user = new_user()
    video = {"video_id": f"{user}-v", "duration_s": 48.0, "author_id": "a1", "tag": "t1"}
    assert pair.put("/videos", json=[video]).json()["accepted"] == 1
    assert pair.put("/users", json=[{"user_id": user, "profile": {"age": 30.0}}]).json()["accepted"] == 1
    sent = event(f"{user}-1", user)
    pair.post("/label", json=sent).raise_for_status()
    held = pair.get(f"/users/{user}/sequence").json()
    assert (held["user_id"], held["events"], held["profile"]) == (user, [sent], {"age": 30.0})
    assert held["events"][0]["timestamp_ms"] == NOW_MS
    assert pair.delete(f"/users/{user}").json()["known"] is True
    assert pair.get(f"/users/{user}/sequence").status_code == 404
    models = pair.get("/v1/models").json()
    assert (models["active"], models["provider"]) == (FIRST, "CPUExecutionProvider")
    assert {m["version"] for m in models["models"]} == {FIRST, SECOND}
    assert all(m["files"] for m in models["models"])
    assert pair.get("/health/live").json()["status"] == "live"
    assert pair.get("/health/ready").json()["status"] == "ready"
    assert pair.get("/metrics").text.startswith("# HELP")
    assert "/openapi.json" in pair.get("/docs").text
    assert {"/label", "/rerank", "/videos", "/users", "/v1/models"} <= set(
        pair.get("/openapi.json").json()["paths"]
    )
