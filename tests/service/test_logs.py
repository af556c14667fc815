"""Log lines: which requests have one, in which form, and what is never in any."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pty
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.errors import StoreUnavailable
from service.state import EmbeddedServer
from service.state.protocol import UserState
from service.telemetry import logs
from service.telemetry.line_limiter import BURST_LINES, LINES_PER_S
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import START_S, event, running, served

SLATE = {"user_id": "u", "candidates": [{"video_id": "v"}]}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard error of this process, with its log configured as a service's; then as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("uvicorn").level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("info", "json")
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logging.getLogger("uvicorn").setLevel(before[2])


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def of_requests(stream: io.StringIO) -> list[dict[str, Any]]:
    return [r for r in records(stream) if r["logger"] == "reelrank.requests"]


class Slow(MemoryStore):
    async def read(self, user_id: str) -> UserState | None:
        await asyncio.sleep(0.5)
        return None


class Faulty(MemoryStore):
    async def read(self, user_id: str) -> UserState | None:
        if user_id == "probe":  # the start has a look
            return None
        raise ZeroDivisionError("a mistake of ours")

    async def forget(self, user_id: str) -> bool:
        raise StoreUnavailable("The store at redis://10.0.0.1 is away.", reason="connection")


def test_every_answer_of_5xx_has_a_line_that_says_which_request_it_was(
    bundles: Path, tmp_path: Path, lines: io.StringIO
) -> None:
    with served(bundles, Faulty(), tmp_path, access_log="off") as client:
        for number in range(10):
            reply = client.delete("/users/alice", headers={"x-request-id": f"id-{number}"})
            assert (reply.status_code, "10.0.0.1" in reply.text) == (503, False)
    found = of_requests(lines)
    assert [r["request_id"] for r in found] == [f"id-{number}" for number in range(10)]
    assert {k: found[0][k] for k in ("event", "level", "method", "route", "status", "reason", "detail")} == {
        "event": "request failed",
        "level": "error",
        "method": "DELETE",
        "route": "/users/{user_id}",
        "status": 503,
        "reason": "store_unavailable",
        "detail": "The store at redis://10.0.0.1 is away.",
    }


def test_a_fault_is_told_once_with_its_traceback_under_the_id_of_the_request(
    bundles: Path, tmp_path: Path, lines: io.StringIO
) -> None:
    with served(bundles, Faulty(), tmp_path) as client:
        reply = client.post("/rerank", json=SLATE, headers={"x-request-id": "id-1"})
        assert (reply.status_code, reply.headers["content-type"]) == (500, "application/problem+json")
        assert client.get("/health/live").status_code == 200  # on the same connection
    traced = [r for r in records(lines) if "exception" in r]
    assert [(r["event"], r["request_id"], r["route"]) for r in traced] == [
        ("a fault in the service", "id-1", "/rerank")
    ]
    assert "ZeroDivisionError: a mistake of ours" in traced[0]["exception"]
    assert lines.getvalue().count("Traceback") == 1


def test_a_slow_request_has_a_line_with_its_stages_and_version(
    bundles: Path, tmp_path: Path, lines: io.StringIO
) -> None:
    with served(bundles, Slow(), tmp_path, slow_ms=50.0, deadline_ms=5_000.0, access_log="off") as client:
        client.post("/rerank", json=SLATE).raise_for_status()
        client.get("/health/live").raise_for_status()
    (found,) = of_requests(lines)
    assert (found["event"], found["level"], found["route"]) == ("request was slow", "warning", "/rerank")
    assert set(found["stages_ms"]) == {"wait", "parse", "state", "inference", "encode", "rest"}
    assert found["stages_ms"]["state"] > 50
    assert found["model_version"] == tiny_bundle.FIRST


@pytest.mark.parametrize(
    ("access", "statuses"), [("off", []), ("errors", [422, 404]), ("all", [200, 422, 404])]
)
def test_the_access_log_has_what_was_asked_for(
    bundles: Path, tmp_path: Path, lines: io.StringIO, access: str, statuses: list[int]
) -> None:
    with served(bundles, MemoryStore(), tmp_path, access_log=access, slow_ms=60_000.0) as client:
        client.post("/rerank", json=SLATE)
        client.post("/rerank", json={"user_id": "u", "candidates": []})
        client.get("/nothing/at/all")
    found = of_requests(lines)
    assert [r["status"] for r in found] == statuses
    assert {r["route"] for r in found} <= {"/rerank", "unmatched"}


def test_a_stream_is_not_slow_however_long_its_client_takes(
    bundles: Path, tmp_path: Path, lines: io.StringIO
) -> None:
    with served(bundles, MemoryStore(), tmp_path, slow_ms=0.001) as client:
        line = json.dumps(event())
        client.post(
            "/label", content=line, headers={"content-type": "application/x-ndjson"}
        ).raise_for_status()
    assert not of_requests(lines)


@pytest.mark.parametrize("status", [404, 503])
def test_a_client_in_a_loop_gets_few_lines_and_they_count_the_others(
    bundles: Path, tmp_path: Path, lines: io.StringIO, status: int
) -> None:
    began = time.monotonic()
    with served(bundles, Faulty(), tmp_path) as client:

        def ask() -> int:
            return client.delete("/users/u" if status == 503 else "/nothing").status_code

        assert {ask() for _ in range(100)} == {status}
        took_s = time.monotonic() - began
        time.sleep(1.1 / LINES_PER_S)
        ask()
    found = of_requests(lines)
    assert BURST_LINES <= len(found) <= BURST_LINES + 2 + took_s * LINES_PER_S
    assert len(found) + sum(r.get("suppressed", 0) for r in found) == 101


def test_a_stranger_who_sends_garbage_gets_few_lines_and_they_count_the_others(
    bundles: Path, tmp_path: Path, lines: io.StringIO
) -> None:
    began = time.monotonic()
    with served(bundles, MemoryStore(), tmp_path) as client:
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as raw:
                raw.sendall(b"GET /health/ready HTTP/1.1\r\nhost: x\r\n\r\n" * 2 + b"BAD\r\n\r\n")
                while raw.recv(4096):
                    pass
    took_s = time.monotonic() - began
    found = [r for r in records(lines) if r["logger"].startswith("uvicorn")]
    assert BURST_LINES <= len(found) <= BURST_LINES + 2 + took_s * LINES_PER_S
    assert "Traceback" not in lines.getvalue()


def test_records_of_libraries_are_lines_of_the_same_form(lines: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request %s", "received")
    (found,) = records(lines)
    assert (found["event"], found["logger"], found["level"]) == (
        "Invalid HTTP request received",
        "uvicorn.error",
        "warning",
    )
    assert found["timestamp"].endswith("Z")


# --- the program


@pytest.mark.slow
def test_start_reload_and_stop_are_told_in_json_where_nobody_watches(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, tiny_bundle.FIRST, tiny_bundle.SECOND)
    with running(root, tmp_path / "data") as service:
        with service.client() as client:
            client.post(f"/v1/models/{tiny_bundle.SECOND}:activate").raise_for_status()
        assert service.terminate() == 0
        assert service.process.stderr is not None
        found = [json.loads(line) for line in service.process.stderr]
    logged = [(r["event"], r.get("version")) for r in found if r["level"] == "info"]
    assert logged == [
        ("bundle loaded", tiny_bundle.FIRST),
        ("ready", tiny_bundle.FIRST),
        ("bundle loaded", tiny_bundle.SECOND),
        ("stopping", None),
        ("stopped", None),
    ]


@pytest.mark.slow
def test_on_a_terminal_it_is_text_for_people(bundles: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    env = os.environ | {"REELRANK_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--bundle", str(bundles)]
    with subprocess.Popen(
        command, env=env, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        said = b""
        end = time.monotonic() + START_S
        while b"listens on" not in said and time.monotonic() < end:
            if select.select([ours], [], [], 1.0)[0]:
                said += os.read(ours, 65536)
        process.terminate()
        assert process.wait(START_S) == 0
    os.close(ours)
    assert b"no API key is configured" in said
    assert b'"event"' not in said


SECRETS = ("sesame-key-1", "sesame-key-2", "sesame-password", "sesame-wrong")


def provoke(client: httpx2.Client, url: str) -> None:
    """Requests good and bad, with keys in every place where a client might put one."""
    for key in ("sesame-key-1", "sesame-wrong"):
        headers = {"authorization": f"Bearer {key}"}
        client.post("/label", json=event(user_id="sesame-user"), headers=headers)
        client.post("/label", json=[event("e2", duration_s=-1)], headers=headers)
        client.post("/rerank", json=SLATE, headers=headers)
        client.post("/rerank", content=b"{", headers=headers | {"content-type": "application/json"})
        client.get("/users/sesame-user/sequence", headers=headers)
        client.get(f"/nothing/{key}?key={key}", headers=headers)
        client.get("/health/live", headers={"x-api-key": key})
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"NOT HTTP sesame-key-1\r\nauthorization: Bearer sesame-key-1\r\n\r\n")
        raw.recv(4096)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_and_no_user_is_in_any_line_at_any_level(bundles: Path, tmp_path: Path, form: str) -> None:
    """With the store going away and coming back with another password on the way."""
    keys = tmp_path / "keys"
    keys.write_text("sesame-key-2:read\n")
    with EmbeddedServer(tmp_path / "store") as store:

        def configure(*words: str) -> None:
            cli = store.url.removeprefix("unix://")
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(cli)
                s.sendall("".join(f"{' '.join(line)}\r\n" for line in [words]).encode())
                s.recv(1000)

        configure("CONFIG", "SET", "requirepass", "sesame-password")
        url = store.url.replace("unix://", "unix://:sesame-password@", 1)
        with running(
            bundles,
            tmp_path / "data",
            REELRANK_STORE=url,
            REELRANK_LOG_LEVEL="debug",
            REELRANK_LOG_FORMAT=form,
            REELRANK_ACCESS_LOG="all",
            REELRANK_SLOW_MS="0.001",
            REELRANK_API_KEYS="sesame-key-1:label+rerank+read+admin",
            REELRANK_API_KEYS_FILE=str(keys),
        ) as service:
            with service.client() as client:
                provoke(client, service.url)
                store.stop()
                provoke(client, service.url)
            assert service.terminate() == 0
            assert service.process.stderr is not None
            said = service.process.stderr.read()
    assert said.count("store_unavailable") >= 2
    assert said.count("unauthorized") >= 2
    for secret in (*SECRETS, "sesame-user", "sesame"):
        assert secret not in said
