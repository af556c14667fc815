"""The Lua scripts beside this file, as the client sends them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Self


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


SEQUENCES = Script.load("records", "left", "sequence", "sequences")
CATALOGUE_PUT = Script.load("catalogue_put")
CATALOGUE_SINCE = Script.load("catalogue_since")
UPGRADE = Script.load("upgrade")
SETTLE = Script.load("settle")
WRITE_ONCE = Script.load("write_once")
