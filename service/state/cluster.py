"""Redis Cluster: every command goes to the node that has its slot, wherever that is by now.

`redis.asyncio.RedisCluster` (8.1.0) closes the connections to all nodes on CLUSTERDOWN or when its map of
slots cannot be read, and sends ASKING on another pooled connection than the command it is for. Under load
that is errors and a standstill while slots move. So its parts are used here (the client of one server, slots
of keys, the errors), and the routing between nodes is our own.

What is repeated without an error to the caller, for at most `RETRY_WINDOW_S`:

    MOVED           at once, at the node it names; meanwhile the map of slots is read anew
    ASK             at once, at the node it names, this once
    TRYAGAIN        while a slot moves a user's keys are on two nodes: until they are together
    CLUSTERDOWN     the nodes are just agreeing on who has the slots
    no answer       the map is read anew. If the slot has another node by now: there. If not, `ShardAway`:
                    the slots of this node are unavailable, those of the others are not
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from redis import asyncio as aioredis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as NotInTime

from service.state.breaker import Breaker, Circuit
from service.state.failures import ShardAway, reason_of
from service.state.multi_node_url import Host, format_host
from service.state.replicated import ReplicatedClient, options_of

SLOTS: Final = 16384
RETRY_WINDOW_S: Final = 2.0
"""For a command that is redirected or must be repeated. The keys of a slot move within milliseconds."""
RETRY_PAUSE_S: Final = 0.02
"""Before it is sent again."""
MAX_REDIRECTS: Final = 5
"""In a row and at once; nodes that redirect a command further do not agree yet."""
NO_ANSWER: Final = (NotConnected, NotInTime, OSError, TimeoutError)
RETRYABLE: Final = (MovedError, AskError, TryAgainError, ClusterDownError, *NO_ANSWER)

Command = Sequence[Any]


class ClusterClient(aioredis.Redis):
    """The client of a cluster, for commands that have all their keys in one slot.

    Args:
        seeds: some nodes; one that answers is enough.
        connect: makes the client of one node.
        repeat: whether to send a command again that was not answered, and so may have been done.
    """

    def __init__(
        self, seeds: Sequence[Host], connect: Callable[[Host], ReplicatedClient], *, repeat: bool = True
    ) -> None:
        super().__init__()  # for its commands; it opens no connection
        self._seeds = tuple(seeds)
        self._connect = connect
        self._repeat = repeat
        self._nodes: dict[Host, _Node] = {}
        self._owners: list[_Node] = []
        self._reading: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "PING":  # a cluster is well when all of its primaries are
            await self._owner(0)
            await _all(node.call(args, options) for node in set(self._owners))
            return True
        slot = slot_of(args)
        end = time.monotonic() + RETRY_WINDOW_S
        node, asking = await self._owner(slot), False
        for turn in itertools.count(1):
            try:
                return await node.call(args, options, asking=asking)
            except (MovedError, AskError) as e:
                if turn > MAX_REDIRECTS and time.monotonic() > end:
                    raise
                asking = isinstance(e, AskError)
                node = self._node(address(e.host, e.port, node.host))
                if not asking:
                    self._owners[slot] = node
                    self._read_soon()
                if turn > MAX_REDIRECTS:
                    await asyncio.sleep(RETRY_PAUSE_S)
            except (TryAgainError, ClusterDownError) as e:
                if args[0] == "MGET" and isinstance(e, TryAgainError):
                    # While a slot moves neither node has all of a user's keys, but each is on one of them.
                    return [await self.execute_command("GET", key) for key in args[1:]]
                if args[0] == "MGET" or time.monotonic() > end:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
                if isinstance(e, ClusterDownError):
                    await self._read()
                node, asking = self._owners[slot], False
            except NO_ANSWER as e:
                await self._read()
                before, node, asking = node, self._owners[slot], False
                if node is before or not self._repeat or time.monotonic() > end:
                    raise ShardAway(f"{format_host(before.host)}: {str(e) or type(e).__name__}") from e
        raise AssertionError("unreachable")

    async def send_many(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands at once, those of one node together; an error reply is an exception in the list."""
        by_node: dict[_Node, list[int]] = {}
        for index, args in enumerate(commands):
            by_node.setdefault(await self._owner(slot_of(args)), []).append(index)
        answers: list[Any] = [None] * len(commands)

        async def together(node: _Node, those: list[int]) -> None:
            try:
                found = await node.send_many([commands[index] for index in those])
            except NO_ANSWER as e:
                found = [e] * len(those)
            for index, answer in zip(those, found, strict=True):
                answers[index] = answer

        async def alone(index: int) -> None:
            try:
                answers[index] = await self.execute_command(*commands[index], **options_of(commands[index]))
            except RedisError as e:
                answers[index] = e

        await _all(together(node, those) for node, those in by_node.items())
        # Slots that move and nodes that go concern some of them only.
        await _all(alone(index) for index, answer in enumerate(answers) if isinstance(answer, RETRYABLE))
        return answers

    async def ask_primaries(self, command: Command) -> list[Any]:
        """Return the reply of every primary; an error reply is an exception in the list."""
        await self._owner(0)
        parts = await asyncio.gather(*(node.send_many((command,)) for node in set(self._owners)))
        return [answer for answers in parts for answer in answers]

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        nodes, self._nodes, self._owners = self._nodes, {}, []
        for node in nodes.values():
            await node.client.aclose()

    async def _owner(self, slot: int) -> _Node:
        if not self._owners:
            await self._read()
        return self._owners[slot]

    def _node(self, host: Host) -> _Node:
        if host not in self._nodes:
            self._nodes[host] = _Node(host, self._connect(host))
        return self._nodes[host]

    async def _read(self) -> None:
        """Read the map of slots, once for all who ask meanwhile.

        Raises:
            redis.exceptions.ConnectionError: no node has it.
            redis.exceptions.RedisError: what the first one says instead, e.g. that the password is wrong.
        """
        await asyncio.shield(self._read_soon())

    def _read_soon(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_now())
            self._reading.add_done_callback(_retrieve_error)
        return self._reading

    async def _read_now(self) -> None:
        failure: Exception = NotConnected("no node has all slots")
        # Those first that answered last.
        known = sorted(self._nodes.values(), key=lambda node: node.circuit.breaker.state != "closed")
        for host in dict.fromkeys([*(node.host for node in known), *self._seeds]):
            try:
                shards = await self._node(host).client.execute_command("CLUSTER", "SLOTS")
            except (RedisError, OSError, TimeoutError) as e:
                if reason_of(failure) in ("connection", "timeout"):  # keep the more specific error
                    failure = e
                continue
            owners, hosts = self._parse_slots(shards, host)
            if None not in owners:
                self._owners = owners
                for gone in self._nodes.keys() - hosts - {*self._seeds}:
                    await self._nodes.pop(gone).client.aclose()
                return
        raise failure

    def _parse_slots(self, shards: list[Any], source: Host) -> tuple[list[Any], set[Host]]:
        """Return the primary of each slot, if it has one, and every node of the reply."""
        owners: list[_Node | None] = [None] * SLOTS
        all_hosts: set[Host] = set()
        for first, last, *nodes in shards:
            hosts = [address(name, port, source) for name, port, *_ in nodes]
            all_hosts.update(hosts)
            owners[first : last + 1] = [self._node(hosts[0])] * (last + 1 - first)
        return owners, all_hosts


class _Node:
    """One server. While it is silent its calls fail at once, as a whole store's do in `GuardedStore`."""

    def __init__(self, host: Host, client: ReplicatedClient) -> None:
        self.host = host
        self.client = client
        self.circuit = Circuit(Breaker(), answered=lambda error: not isinstance(error, NO_ANSWER))

    async def call(self, args: Command, options: dict[str, Any], *, asking: bool = False) -> Any:
        with self.circuit.call():
            if asking:
                return await self.client.send(args, options, asking=True)
            return await self.client.execute_command(*args, **options)

    async def send_many(self, commands: Sequence[Command]) -> list[Any]:
        with self.circuit.call():
            return await self.client.send_many(commands)


def slot_of(args: Command) -> int:
    """Return the slot of a command's keys; 0 if it has none."""
    match args[0]:
        case "EVALSHA" | "EVAL":
            key = args[3]
        case "XREADGROUP":
            key = args[args.index(b"STREAMS") + 1]
        case "INFO":
            return 0
        case _:
            key = args[1]
    return int(key_slot(key if isinstance(key, bytes) else str(key).encode()))


def address(name: str | bytes | None, port: int, source: Host) -> Host:
    """Return the address of a node as `source` gives it; a missing host is that of `source`."""
    host = name.decode() if isinstance(name, bytes) else name
    return (source[0] if host in (None, "", "?") else host, int(port))


async def _all(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> None:
    waiting = list(coroutines)
    if len(waiting) == 1:
        await waiting[0]
    else:
        await asyncio.gather(*waiting)


def _retrieve_error(task: asyncio.Task[None]) -> None:
    """Mark the error of a task as seen, which no call may be waiting for."""
    if not task.cancelled():
        task.exception()
