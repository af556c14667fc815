"""A store behind TLS, and one that gives us only the rights we need."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
import uvloop
from redis import Redis
from redis.exceptions import ResponseError

from loadtests.host import free_port
from models.errors import BadInput, StoreUnavailable
from service.state import EmbeddedServer, RedisStore
from tests.architecture.repository import ROOT
from tests.service import clusters, command_line
from tests.service.running import NOW_MS, command, event, running
from tests.service.stores import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clusters")]

PASSWORD = "p@ss:w/rd"
SLATE = {"user_id": "alice", "candidates": [{"video_id": "v1", "duration_s": 20.0}]}


@contextmanager
def over_tls(folder: Path, ca: trustme.CA) -> Iterator[int]:
    """The port of a redis-server that speaks TLS only and asks for no certificate of ours."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on the PATH (apt-get install redis-server)")
    port = free_port()
    options = {
        **certified(folder, ca),
        "port": "0",
        "tls-port": str(port),
        "bind": "127.0.0.1",
        "requirepass": PASSWORD,
        "appendonly": "yes",
        "save": "",
        "dir": str(folder),
        "logfile": str(folder / "server.log"),
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    with subprocess.Popen([program, *arguments], stdin=subprocess.DEVNULL) as server:
        try:
            if not _listens(port, server):
                if "tls" in (folder / "server.log").read_text().lower():
                    pytest.skip("this redis-server was built without TLS")
                raise AssertionError((folder / "server.log").read_text())
            yield port
        finally:
            server.terminate()


def certified(folder: Path, ca: trustme.CA) -> dict[str, str]:
    """The options of a server with a certificate for `localhost`; `ca.pem` in the folder vouches for it."""
    certificate = ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return {
        "tls-cert-file": str(folder / "cert.pem"),
        "tls-key-file": str(folder / "key.pem"),
        "tls-ca-cert-file": str(folder / "ca.pem"),
        "tls-auth-clients": "no",
    }


def _listens(port: int, server: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + 10
    while server.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.02)
    return False


def test_a_store_behind_tls_is_used_when_its_certificate_is_trusted(bundles: Path, tmp_path: Path) -> None:
    with over_tls(tmp_path, trustme.CA()) as port:
        where = f"rediss://:{quote(PASSWORD, safe='')}@localhost:{port}/0"
        trusted = f"{where}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with (
            running(bundles, tmp_path / "data", REELRANK_STORE=trusted) as service,
            service.client() as client,
        ):
            assert client.post("/label", json=event()).json()["accepted"] == 1
            assert client.post("/rerank", json=SLATE).json()["history_length"] == 1
            assert client.get("/health/ready").json()["degraded"] == []
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        for wrong in (
            where,  # signed by an authority unknown to the system
            f"{where}?ssl_ca_certs={tmp_path / 'other.pem'}",
            trusted.replace("localhost", "127.0.0.1"),  # not the name in the certificate
            trusted.replace("rediss:", "redis:").partition("?")[0],  # in the clear
        ):
            assert "could not answer" in (said := asyncio.run(refusal(wrong)))
            assert not [secret for secret in (PASSWORD, quote(PASSWORD, safe="")) if secret in said]


async def refusal(
    url: str, call: Callable[[RedisStore], Awaitable[None]] = lambda store: store.ping()
) -> str:
    """The message of a call that the store refuses."""
    store = RedisStore.open(url, timeout_s=5)
    try:
        with pytest.raises(StoreUnavailable) as caught:
            await call(store)
        return str(caught.value)
    finally:
        await store.close()


def test_a_certificate_that_is_not_there_ends_the_start(bundles: Path, tmp_path: Path) -> None:
    url = f"rediss://:{quote(PASSWORD, safe='')}@localhost:1/0?ssl_ca_certs={tmp_path / 'nope.pem'}"
    args = ("serve", "--port", "0", "--bundle", bundles)
    said = command_line.refusal(*args, data_dir=tmp_path, REELRANK_STORE=url)
    assert "nope.pem" in said
    assert PASSWORD not in said
    with pytest.raises(BadInput, match="ssl_certfile"):
        RedisStore.open(f"rediss://localhost/0?ssl_certfile={tmp_path / 'nope.pem'}")


# --- an ACL user


def documented_rules(user: str) -> list[list[str]]:
    """The rules that SECURITY.md has an operator type: for one server, then what several need besides."""
    return [
        text.replace(">PASSWORD", f">{PASSWORD}").split()
        for text in (ROOT / "SECURITY.md").read_text().splitlines()
        if text.startswith(f"ACL SETUSER {user} ")
    ]


@pytest.fixture(scope="module", params=["embedded", "debian"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedServer]:
    program = None
    if request.param == "debian":
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip("no redis-server on the PATH (apt-get install redis-server)")
        program = Path(found)
    with EmbeddedServer(tmp_path_factory.mktemp("store"), program=program) as started:
        with Redis.from_url(started.url) as root:
            for user in ("reelrank", "reelrank-consumer"):
                root.execute_command(*documented_rules(user)[0])
        yield started


def url_of(server: EmbeddedServer, user: str = "reelrank") -> str:
    return server.url.replace("unix://", f"unix://{user}:{quote(PASSWORD, safe='')}@")


def test_the_documented_acl_user_can_do_all_that_the_service_does(
    server: EmbeddedServer, bundles: Path, tmp_path: Path
) -> None:
    env = {
        "REELRANK_STORE": url_of(server),
        "REELRANK_IDEMPOTENCY_WINDOW_S": "1",
        "REELRANK_SEQUENCE_LENGTH": "5",
    }
    with running(bundles, tmp_path, **env) as service, service.client() as client:

        def label(first: int) -> int:
            events = [event(f"e{i}", "alice", timestamp_ms=NOW_MS + i) for i in range(first, first + 20)]
            return int(client.post("/label", json=events).json()["accepted"])

        assert label(0) == 20  # more than the sequence holds, so pages are written
        time.sleep(1.1)  # a generation of what is remembered is let go, and the next one after it
        assert label(100) == 20
        time.sleep(1.1)
        assert label(200) == 20
        assert client.put("/videos", json=[{"video_id": "v", "duration_s": 9.0}]).status_code == 200
        assert client.put("/users", json=[{"user_id": "alice", "profile": {"age": 30}}]).status_code == 200
        assert client.post("/rerank", json=SLATE).json()["history_length"] == 5
        assert client.get("/users/alice/sequence").json()["profile"] == {"age": 30}
        assert client.delete("/users/alice").json()["known"] is True
        assert client.get("/health/ready").json()["degraded"] == []
    with Redis.from_url(server.url) as root:
        denied = [entry for entry in root.execute_command("ACL LOG") if b"reelrank" in str(entry).encode()]
        assert not denied


def test_the_documented_acl_user_of_a_consumer_can_do_all_that_it_does(
    server: EmbeddedServer, bundles: Path, tmp_path: Path
) -> None:
    with Redis.from_url(server.url) as root:
        for i in range(30):
            root.xadd(
                "reelrank:events", {"event": json.dumps(event(f"c{i}", "carol", timestamp_ms=NOW_MS + i))}
            )
        root.xadd("reelrank:events", {"event": "no event"})
        options = ("--bundle", str(bundles), "--store", url_of(server, "reelrank-consumer"), "--trim")
        with command("consume", *options, data_dir=tmp_path) as process:
            try:
                until(lambda: root.xlen("reelrank:labels") == 30 and root.xlen("reelrank:dead") == 1)
                until(lambda: root.xlen("reelrank:events") <= 1)
            finally:
                process.terminate()
                _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
        denied = [entry for entry in root.execute_command("ACL LOG") if b"consumer" in str(entry).encode()]
        assert not denied


@pytest.mark.parametrize(
    "words",
    [
        ["SET", "other", "1"],
        ["GET", "other"],
        ["EVAL", "return redis.call('SET', 'other', 1)", "0"],
        ["KEYS", "*"],
        ["FLUSHALL"],
        ["CONFIG", "GET", "*"],
        ["ACL", "LIST"],
        ["SUBSCRIBE", "x"],
    ],
)
def test_the_documented_acl_user_can_do_nothing_else(server: EmbeddedServer, words: list[str]) -> None:
    with Redis.from_url(url_of(server)) as client:
        until(client.ping)
        with pytest.raises(ResponseError, match=r"permission|access|ACL"):
            client.execute_command(*words)


# --- beyond one node


def test_the_documented_acl_user_can_do_all_that_the_service_does_on_a_cluster_over_tls(
    bundles: Path, tmp_path: Path
) -> None:
    port = free_port()
    options = certified(tmp_path, trustme.CA()) | {
        "tls-port": str(port),
        "appendonly": "yes",
        "cluster-enabled": "yes",
        "tls-cluster": "yes",
        "save": "",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    with clusters.node(tmp_path / "node", *given) as node:
        node.command("CLUSTER", "ADDSLOTSRANGE", 0, clusters.SLOTS - 1)
        alone, beyond = documented_rules("reelrank")
        node.command(*alone)
        node.command(*beyond)
        until(lambda: b"cluster_state:ok" in node.command("CLUSTER", "INFO"))
        login = f"reelrank:{quote(PASSWORD, safe='')}"
        url = f"rediss+cluster://{login}@localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with running(bundles, tmp_path / "data", REELRANK_STORE=url) as service, service.client() as http:
            assert http.post("/label", json=[event(f"e{i}") for i in range(40)]).json()["accepted"] == 40
            assert http.post("/rerank", json=SLATE).json()["history_length"] == 40
            assert http.get("/health/ready").json()["degraded"] == []
        for wrong in (
            url.replace("rediss", "redis").partition("?")[0],
            url.replace("localhost", "127.0.0.1"),
        ):
            said = asyncio.run(refusal(wrong))
            assert not [secret for secret in (PASSWORD, quote(PASSWORD, safe="")) if secret in said]
        assert "replicas have it" in asyncio.run(
            refusal(f"{url}&replicas=1", lambda store: store.put_profile("alice", {}))
        )
        denied = [entry for entry in node.command("ACL", "LOG") if b"reelrank" in str(entry).encode()]
        assert not denied
        wrong = url.replace(quote(PASSWORD, safe=""), "hidden-word")
        start = ("serve", "--port", "0", "--bundle", str(bundles), "--store", wrong)
        said = command_line.refusal(*start, data_dir=tmp_path / "data")
        assert "REELRANK_STORE" in said
        assert "hidden-word" not in said


def test_a_server_that_hangs_keeps_no_connection_behind_tls_open(tmp_path: Path) -> None:
    port = free_port()
    options = certified(tmp_path, trustme.CA()) | {"tls-port": str(port), "cluster-enabled": "yes"}
    given = [
        part for name, value in (options | {"tls-cluster": "yes"}).items() for part in (f"--{name}", value)
    ]

    async def stop(url: str, node: clusters.Node) -> None:
        store = RedisStore.open(url, timeout_s=0.5)
        try:
            await store.ping()
            node.signal(signal.SIGSTOP)
        finally:
            await store.close()

    with clusters.node(tmp_path / "node", *given) as node:
        node.command("CLUSTER", "ADDSLOTSRANGE", 0, clusters.SLOTS - 1)
        until(lambda: b"cluster_state:ok" in node.command("CLUSTER", "INFO"))
        url = f"rediss+cluster://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}"
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # it warns of what is left open
            try:
                runner.run(stop(url, node))
            finally:
                node.signal(signal.SIGCONT)


def test_the_documented_user_of_a_sentinel_can_find_the_primary_and_do_nothing_else(tmp_path: Path) -> None:
    with clusters.watched(tmp_path, replicas=1, sentinels=1) as guarded:
        sentinel = guarded.sentinels[0]
        (line,) = re.findall(r"`(ACL SETUSER watcher .*?)`", (ROOT / "SECURITY.md").read_text())
        sentinel.command(*line.replace(">PASSWORD", f">{PASSWORD}").split())
        watcher = clusters.Node(sentinel.port, sentinel.bus, sentinel.process, "watcher", PASSWORD)
        sentinel.command("ACL", "SETUSER", "default", "off")
        login = f"sentinel_username=watcher&sentinel_password={quote(PASSWORD, safe='')}"
        asyncio.run(answers(f"{guarded.url}?{login}"))
        with pytest.raises(ResponseError, match="permission"):
            watcher.command("SENTINEL", "FAILOVER", clusters.NAME)


async def answers(url: str) -> None:
    store = RedisStore.open(url, timeout_s=5)
    await store.ping()
    await store.close()
