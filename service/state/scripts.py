"""The Lua scripts beside this file, as the client sends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, Protocol, Self

from redis.exceptions import NoScriptError


class Commands(Protocol):
    """What sends commands to a server."""

    async def execute_command(self, *command: Any) -> Any:
        """Return the answer to a command."""


@dataclass(frozen=True)
class Script:
    """A script and the digest a server knows it by."""

    text: str
    sha: str

    @classmethod
    def load(cls, *names: str) -> Self:
        """The named files of `lua/`, one after the other."""
        folder = files("service.state") / "lua"
        text = "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())

    async def run(self, client: Commands, keys: Sequence[str], *args: bytes | str | int) -> Any:
        """Run it by its digest, or by its text where the server does not have it yet."""
        try:
            return await client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.execute_command("EVAL", self.text, len(keys), *keys, *args)


SEQUENCES = Script.load("records", "left", "sequence", "sequences")
CATALOGUE_PUT = Script.load("catalogue_put")
CATALOGUE_SINCE = Script.load("catalogue_since")
UPGRADE = Script.load("upgrade")
SETTLE = Script.load("settle")
WRITE_ONCE = Script.load("write_once")
