"""Who may do what: API keys with rights."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request

from models.errors import BadInput, ReelrankError

RIGHTS: Final = ("label", "rerank", "read", "admin")


class Unauthorized(ReelrankError):
    """No key, or one that nobody has been given."""


class Forbidden(ReelrankError):
    """A key without the right this path asks for."""


class Keys:
    """The configured keys. Only their digests are kept; they are compared in constant time.

    Args:
        rights: per key its rights. Empty: everybody may do everything, and `serve` binds to loopback only.
    """

    def __init__(self, rights: Mapping[str, frozenset[str]]) -> None:
        self._rights = [(_digest(key.encode()), granted) for key, granted in rights.items()]

    def __bool__(self) -> bool:
        return bool(self._rights)

    @classmethod
    def read(cls, text: str, file: Path | None) -> Keys:
        """Keys from `REELRANK_API_KEYS` and `REELRANK_API_KEYS_FILE`: entries `KEY:right+right`.

        Raises:
            BadInput: an entry is not of that form, or the file cannot be read. Never quotes a key.
        """
        entries = text.replace("\n", ",").split(",")
        if file is not None:
            try:
                lines = file.read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as e:
                raise BadInput(f"REELRANK_API_KEYS_FILE {file} cannot be read: {e}.") from None
            entries += [line.partition("#")[0] for line in lines]
        return cls(dict(_parsed(entry.strip() for entry in entries)))

    def check(self, authorization: bytes | None, right: str) -> None:
        """Let the caller pass.

        Args:
            authorization: the header's value.
            right: one of `RIGHTS`.

        Raises:
            Unauthorized: no `Bearer` key, or an unknown one.
            Forbidden: the key does not have the right.
        """
        if not self._rights:
            return
        scheme, _, key = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("This service asks for `Authorization: Bearer <key>`.")
        found = _digest(key.strip())
        granted: frozenset[str] | None = None
        for digest, rights in self._rights:  # all of them: the time must not tell which one was near
            if hmac.compare_digest(digest, found):
                granted = rights
        if granted is None:
            raise Unauthorized("The key is not known.")
        if right not in granted:
            raise Forbidden(f"The key does not have the right `{right}`.")


def allow(request: Request, keys: Keys, right: str) -> None:
    """Let the request pass, see `Keys.check`."""
    value = request.headers.get("authorization")
    keys.check(value.encode("latin-1") if value is not None else None, right)


def _parsed(entries: Iterable[str]) -> Iterable[tuple[str, frozenset[str]]]:
    for number, entry in enumerate(entries, 1):
        if not entry:
            continue
        key, colon, names = entry.rpartition(":")
        rights = frozenset(name.strip() for name in names.split("+"))
        if not (key and colon) or not rights <= set(RIGHTS):
            raise BadInput(
                f"API key number {number} is not of the form KEY:right+right with rights out of "
                f"{', '.join(RIGHTS)}."
            )
        yield key, rights


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
