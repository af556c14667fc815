"""Writes that count when replicas have them: what was answered then survives the primary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis import asyncio as aioredis

from service.state.closed_transport import closed_is_broken
from service.state.failures import NotReplicated

WRITES: Final = frozenset({"EVALSHA", "EVAL", "SET", "UNLINK"})
"""What the store writes with."""

WAIT_MS: Final = 200
"""For the replicas; within the time-out of a command."""


class ReplicatedClient(aioredis.Redis):
    """The client of one primary.

    Args:
        pool: its connections, closed with this.
        replicas: that must have a write before it is answered; 0: none, nothing is waited for.
    """

    def __init__(self, pool: aioredis.ConnectionPool, replicas: int = 0) -> None:
        super().__init__(connection_pool=closed_is_broken(pool))
        self.auto_close_connection_pool = True
        self._replicas = replicas

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if self._replicas and args[0] in WRITES:
            return await self.send(args, options)
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # the client's own

    async def send_many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send several commands at once; an error reply is an exception in the list. Scripts are waited for;
        claims on event ids are not: what is lost of them is no event.

        Raises:
            NotReplicated: they were done, and too few replicas said so in time.
        """
        waits = self._replicas > 0 and any(command[0] == "EVALSHA" for command in commands)
        pipeline = self.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command, **options_of(command))
        if waits:
            pipeline.execute_command("WAIT", self._replicas, WAIT_MS)
        answers = await pipeline.execute(raise_on_error=False)
        if waits:
            self._check_replicas(answers.pop())
        return answers

    async def ask_primaries(self, command: Sequence[Any]) -> list[Any]:
        """Return the reply of every primary; an error reply is an exception in the list."""
        return await self.send_many((command,))

    async def send(self, args: Sequence[Any], options: dict[str, Any], *, asking: bool = False) -> Any:
        """Send a command on one connection with what belongs before and after it.

        Args:
            asking: the node is just being given the slot, and serves those who say that they know.

        Raises:
            NotReplicated: it was done, and too few replicas said so in time.
        """
        waits = self._replicas > 0 and args[0] in WRITES
        pipeline = self.pipeline(transaction=False)
        if asking:
            pipeline.execute_command("ASKING")
        pipeline.execute_command(*args, **options)
        if waits:
            pipeline.execute_command("WAIT", self._replicas, WAIT_MS)
        answers = await pipeline.execute(raise_on_error=False)
        answer = answers[int(asking)]
        if isinstance(answer, Exception):
            raise answer
        if waits:
            self._check_replicas(answers[-1])
        return answer

    def _check_replicas(self, answer: Any) -> None:
        if not (isinstance(answer, int) and answer >= self._replicas):
            raise NotReplicated(f"{answer} of {self._replicas} replicas have it after {WAIT_MS} ms")


def options_of(command: Sequence[Any]) -> dict[str, Any]:
    """Return the client's options for a command: else it makes a boolean of what SET … GET replies."""
    return {"get": True} if command[0] == "SET" else {}
