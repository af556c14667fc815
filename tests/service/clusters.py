"""Redis beyond one node, for tests: a cluster of real redis-server processes on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from service.store import _guard
from tests.service.stores import free_port, until

SLOTS = 16384
NODE_TIMEOUT_MS = 1000
"""Silence after which a node counts as gone."""


@dataclass
class Node:
    """One server process."""

    port: int
    bus: int
    """Where nodes of a cluster talk to each other."""
    process: subprocess.Popen[bytes]
    user: str = ""
    password: str = ""

    def tell(self, *words: str | bytes | int) -> Any:
        """One command, and the answer as it comes."""
        login: dict[str, Any] = {"username": self.user or None, "password": self.password or None}
        with Redis(port=self.port, socket_timeout=5, **login) as client:
            client.response_callbacks.clear()
            return client.execute_command(*words)

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

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
def node(folder: Path, *options: str | int, program: str | None = None) -> Iterator[Node]:
    """A server on a free port. A first option that is a file is its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    port, bus = free_port(), free_port()
    file = [str(part) for part in options[:1] if not str(part).startswith("--")]
    command = [program or redis_program(), *file, *map(str, options[len(file) :])]
    command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--logfile", "server.log"]
    if "--cluster-enabled" in command:
        command += ["--cluster-port", str(bus)]
    guard = [sys.executable, "-I", "-S", _guard.__file__, "follow", str(os.getpid())]
    process = subprocess.Popen([*guard, *command], start_new_session=True, stdout=subprocess.DEVNULL)
    started = Node(port, bus, process)
    try:
        until(lambda: started.tell("PING"))
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
            each.tell("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            each.tell("CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
        for other in nodes[1:]:
            other.tell("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
        until(lambda: all(each.tell("CLUSTER", "NODES").count(b"connected") == len(nodes) for each in nodes))
        for number, replica in enumerate(nodes[primaries:]):
            until(
                lambda r=replica, n=number: r.tell("CLUSTER", "REPLICATE", self.id_of(nodes[n % primaries]))
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
        about = [each.tell("INFO", "replication") for each in self.alive]
        states = [each.tell("CLUSTER", "INFO") for each in self.alive]
        return all(b"cluster_state:ok" in state for state in states) and not any(
            b"role:slave" in text and b"master_link_status:up" not in text for text in about
        )

    def id_of(self, which: Node) -> bytes:
        found: bytes = which.tell("CLUSTER", "MYID")
        return found

    def owner(self, slot: int) -> Node:
        """Who serves a slot."""
        for first, last, (_, port, *_), *_ in self.alive[-1].tell("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(each for each in self.nodes if each.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def move(self, slot: int, to: Node, pause: Any = lambda: None) -> None:
        """Move a slot with its keys the way `redis-cli --cluster reshard` does: key by key, so that for a
        while some are here and some are there.

        Args:
            pause: called between two keys.
        """
        source = self.owner(slot)
        to.tell("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.tell("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        while keys := source.tell("CLUSTER", "GETKEYSINSLOT", slot, 1):
            source.tell("MIGRATE", "127.0.0.1", to.port, keys[0], 0, 5000)
            pause()
        for each in (to, source, *self.alive):
            with suppress(RedisError):  # a replica needs not be told
                each.tell("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))


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
        "--save",
        "",
    ]
    options += ["--repl-diskless-sync-delay", 0, "--cluster-replica-validity-factor", 0]
    with ExitStack() as stack:
        count = primaries * (1 + replicas)
        nodes = [stack.enter_context(node(folder / str(i), *options)) for i in range(count + spare)]
        ready = Cluster(nodes[:count], primaries)
        for late in nodes[count:]:
            late.tell("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
            ready.nodes.append(late)
        until(lambda: all(each.tell("CLUSTER", "NODES").count(b"connected") == len(nodes) for each in nodes))
        yield ready
