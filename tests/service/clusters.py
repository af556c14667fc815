"""Redis beyond one node, for tests: a cluster of real redis-server processes on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis
from redis.exceptions import RedisError

from loadtests.host import free_port
from service.state import _parent_guard
from tests.service.stores import until

SLOTS: Final = 16384
NODE_TIMEOUT_MS: Final = 1000
"""Silence after which a node counts as gone."""

NAME: Final = "reels"
"""Of the primary that sentinels look after."""


@dataclass
class Node:
    """One server process."""

    port: int
    bus: int
    """Where nodes of a cluster talk to each other."""
    process: subprocess.Popen[bytes]
    user: str = ""
    password: str = ""

    def command(self, *words: str | bytes | int) -> Any:
        """One command, and the answer as it comes."""
        login: dict[str, Any] = {"username": self.user or None, "password": self.password or None}
        with Redis(port=self.port, socket_timeout=5, **login) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def redis_program() -> str:
    """The redis-server of the system, or the test is skipped."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on the PATH (apt-get install redis-server)")
    return program


@contextmanager
def node(folder: Path, *options: str | int | Path, user: str = "", password: str = "") -> Iterator[Node]:
    """A server on a free port. A first option that is a file is its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    port, bus = free_port(), free_port()
    file = [str(part) for part in options[:1] if not str(part).startswith("--")]
    command = [redis_program(), *file, *map(str, options[len(file) :])]
    command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--logfile", "server.log"]
    if "--sentinel" not in command:
        command += ["--cluster-port", str(bus)]
    guard = [sys.executable, "-I", "-S", _parent_guard.__file__, "follow", str(os.getpid())]
    process = subprocess.Popen([*guard, *command], start_new_session=True, stdout=subprocess.DEVNULL)
    started = Node(port, bus, process, user, password)
    try:
        until(lambda: started.command("PING"))
        yield started
    finally:
        process.kill()
        process.wait()


class Cluster:
    """Primaries that share the slots equally, and replicas, one after the other of each."""

    def __init__(self, nodes: list[Node], primaries: int) -> None:
        self.nodes = nodes
        share = -(-SLOTS // primaries)
        for number, each in enumerate(nodes[:primaries]):
            each.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            each.command("CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
        for other in nodes[1:]:
            other.command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
        until(
            lambda: all(each.command("CLUSTER", "NODES").count(b"connected") == len(nodes) for each in nodes)
        )
        for number, replica in enumerate(nodes[primaries:]):
            until(
                lambda r=replica, n=number: r.command(
                    "CLUSTER", "REPLICATE", self.id_of(nodes[n % primaries])
                )
            )
        until(self.is_whole)

    @property
    def url(self) -> str:
        """Names two of the nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.nodes[:2])

    @property
    def alive(self) -> list[Node]:
        return [each for each in self.nodes if each.runs]

    def is_whole(self) -> bool:
        """Whether every node that runs sees all slots served, and every replica has caught up."""
        about = [each.command("INFO", "replication") for each in self.alive]
        states = [each.command("CLUSTER", "INFO") for each in self.alive]
        return all(b"cluster_state:ok" in state for state in states) and not any(
            b"role:slave" in text and b"master_link_status:up" not in text for text in about
        )

    def id_of(self, which: Node) -> bytes:
        node_id: bytes = which.command("CLUSTER", "MYID")
        return node_id

    def owner(self, slot: int) -> Node:
        """Who serves a slot."""
        for first, last, (_, port, *_), *_ in self.alive[-1].command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(each for each in self.nodes if each.port == port)
        raise AssertionError(f"no node serves slot {slot}")

    def other(self, slot: int) -> Node:
        """A primary that does not serve a slot."""
        mine = self.owner(slot)
        return next(each for each in self.alive if each is not mine and each.command("ROLE")[0] == b"master")

    @contextmanager
    def moving(self, slot: int, to: Node) -> Iterator[Callable[[], bool]]:
        """A slot on its way, as `redis-cli --cluster reshard` does it; yields what moves one key more and
        returns whether there was one. The rest goes at the end, and then the slot is there."""
        source = self.owner(slot)
        to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))

        def step() -> bool:
            keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, 1)
            if keys:
                # A node that the machine has silenced for a second takes no key until it is back.
                until(
                    lambda: all(
                        b"cluster_state:ok" in each.command("CLUSTER", "INFO") for each in (source, to)
                    )
                )
                source.command("MIGRATE", "127.0.0.1", to.port, keys[0], 0, 5000)
            return bool(keys)

        yield step
        while step():
            pass
        for each in (to, source, *self.alive):
            with suppress(RedisError):  # a replica is not asked
                each.command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))

    def move(self, slot: int, to: Node) -> None:
        """Move a slot and its keys."""
        with self.moving(slot, to):
            pass


@contextmanager
def cluster(folder: Path, *, primaries: int = 3, replicas: int = 0, spare: int = 0) -> Iterator[Cluster]:
    """A cluster that is ready.

    Args:
        replicas: of each primary.
        spare: primaries that have no slot yet.
    """
    options: list[str | int] = [
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        NODE_TIMEOUT_MS,
        "--cluster-require-full-coverage",
        "no",  # a node that a busy machine has silenced for a second is not the end of the cluster
        "--save",
        "",
    ]
    options += ["--repl-diskless-sync-delay", 0, "--cluster-replica-validity-factor", 0]
    with ExitStack() as stack:
        count = primaries * (1 + replicas)
        nodes = [stack.enter_context(node(folder / str(i), *options)) for i in range(count + spare)]
        ready = Cluster(nodes[:count], primaries)
        for late in nodes[count:]:
            late.command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
            ready.nodes.append(late)
        until(
            lambda: all(each.command("CLUSTER", "NODES").count(b"connected") == len(nodes) for each in nodes)
        )
        until(ready.is_whole)  # a newcomer takes no key in its first two seconds
        yield ready


@dataclass
class Watched:
    """A primary, its replicas, and sentinels who look after them."""

    servers: list[Node]
    sentinels: list[Node]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}"

    @property
    def primary(self) -> Node:
        """As a sentinel says."""
        _, port = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return next(each for each in self.servers if each.port == int(port))


@contextmanager
def watched(folder: Path, *, replicas: int = 2, sentinels: int = 2) -> Iterator[Watched]:
    """Such a set that is ready."""
    with ExitStack() as stack:
        options: list[str | int] = ["--save", "", "--repl-diskless-sync-delay", 0]
        primary = stack.enter_context(node(folder / "primary", *options))
        of = ["--replicaof", f"127.0.0.1 {primary.port}"]
        others = [stack.enter_context(node(folder / f"r{i}", *options, *of)) for i in range(replicas)]
        until(lambda: primary.command("INFO", "replication").count(b"state=online") == replicas)
        guards = []
        for i in range(sentinels):
            (file := folder / f"sentinel{i}.conf").write_text(
                f"sentinel monitor {NAME} 127.0.0.1 {primary.port} {sentinels}\n"
                f"sentinel down-after-milliseconds {NAME} {NODE_TIMEOUT_MS}\n"
                f"sentinel failover-timeout {NAME} 5000\n"
            )
            guards.append(stack.enter_context(node(folder / f"s{i}", file, "--sentinel")))
        ready = Watched([primary, *others], guards)
        for guard in guards:
            until(lambda g=guard: _knows(g, replicas, sentinels - 1))
        yield ready


def _knows(sentinel: Node, replicas: int, others: int) -> bool:
    info = sentinel.command("INFO", "sentinel")
    return f"slaves={replicas},sentinels={others + 1}".encode() in info
