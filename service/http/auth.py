"""Authorization: API keys with rights and rates."""

from __future__ import annotations

import functools
import hashlib
import hmac
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from models.errors import BadInput, Forbidden, TooFast, Unauthorized
from service.telemetry.trace import current_trace
from service.token_bucket import TokenBucket

Handler = Callable[[Request], Awaitable[Response]]

RIGHTS: Final = ("label", "rerank", "read", "admin")


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights of a key.

    Attributes:
        rights: out of `RIGHTS`.
        rate: requests a second of one process; 0 means no limit.
    """

    rights: frozenset[str]
    rate: float = 0.0


class Keys:
    """The configured keys. Only their digests are kept; they are compared in constant time.

    Args:
        grants: per key its rights. Empty: every request has every right, and `serve` binds to loopback only.
    """

    def __init__(self, grants: Mapping[str, Grant]) -> None:
        self._grants = [
            (_digest(key.encode()), grant, TokenBucket(grant.rate) if grant.rate else None)
            for key, grant in grants.items()
        ]

    def __bool__(self) -> bool:
        return bool(self._grants)

    @classmethod
    def read(cls, text: str, file: Path | None, *, rate: float = 0.0) -> Keys:
        """Return the keys of `REELRANK_API_KEYS` and `REELRANK_API_KEYS_FILE`.

        An entry is `KEY:right+right[@RATE]`.

        Args:
            text: entries with commas or on lines.
            file: with one entry a line; `#` starts a comment.
            rate: of keys that name none, see `Grant`.

        Raises:
            BadInput: an entry is not of that form, or the file cannot be read. Never quotes a key.
        """
        entries = text.replace("\n", ",").split(",")
        if file is not None:
            try:
                lines = file.read_text("utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as e:
                raise BadInput(f"REELRANK_API_KEYS_FILE {file} cannot be read: {e}.") from None
            entries += [line.partition("#")[0] for line in lines]
        return cls(dict(_parsed((entry.strip() for entry in entries), rate)))

    def check(self, authorization: str | None, right: str) -> None:
        """Let the caller pass and note who it is in the current trace, or raise.

        Args:
            authorization: the header's value.
            right: one of `RIGHTS`.

        Raises:
            Unauthorized: no `Bearer` key, or an unknown one.
            Forbidden: the key does not have the right.
            TooFast: it has it, and has used up its rate.
        """
        if not self._grants:
            return
        number, grant, bucket = self._find(authorization)
        if right not in grant.rights:
            raise Forbidden(f"The key does not have the right `{right}`.")
        if bucket is not None and (wait_s := bucket.take()):
            raise TooFast(
                f"The key may make {grant.rate:g} requests a second of this process; "
                f"the next one in {wait_s:.2g} s.",
                retry_after_s=wait_s,
            )
        if len(self._grants) > 1:
            current_trace().caller = number

    def rights(self, authorization: str | None) -> frozenset[str]:
        """Return the caller's rights: all, if no keys are configured.

        Args:
            authorization: the header's value.

        Raises:
            Unauthorized: no `Bearer` key, or an unknown one.
        """
        return self._find(authorization)[1].rights if self._grants else frozenset(RIGHTS)

    def _find(self, authorization: str | None) -> tuple[int, Grant, TokenBucket | None]:
        """Number, grant and rate of the caller's key, or `Unauthorized`."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("This service asks for `Authorization: Bearer <key>`.")
        digest = _digest(key.strip().encode("latin-1"))
        match: tuple[int, Grant, TokenBucket | None] | None = None
        # All of them: the time must not reveal which one was near.
        for number, (known, grant, bucket) in enumerate(self._grants, 1):
            if hmac.compare_digest(known, digest):
                match = number, grant, bucket
        if match is None:
            raise Unauthorized("The key is not known.")
        return match

    def require(self, right: str) -> Callable[[Handler], Handler]:
        """Return a decorator for handlers that answer only requests whose key has the right."""

        def decorate(handler: Handler) -> Handler:
            @functools.wraps(handler)
            async def authorized(request: Request) -> Response:
                self.check(request.headers.get("authorization"), right)
                return await handler(request)

            return authorized

        return decorate


def _parsed(entries: Iterable[str], default_rate: float) -> Iterable[tuple[str, Grant]]:
    for number, entry in enumerate(entries, 1):
        if not entry:
            continue
        key, colon, granted = entry.rpartition(":")
        names, at, limit = granted.partition("@")
        rights = frozenset(name.strip() for name in names.split("+"))
        rate = _rate(limit) if at else default_rate
        if not (key and colon) or not rights <= set(RIGHTS) or rate is None:
            raise BadInput(
                f"API key number {number} is not of the form KEY:right+right or KEY:right+right@RATE, with "
                f"rights out of {', '.join(RIGHTS)} and a RATE of requests a second (0: no limit)."
            )
        yield key, Grant(rights, rate)


def _rate(text: str) -> float | None:
    try:
        rate = float(text)
    except ValueError:
        return None
    return rate if 0 <= rate < math.inf else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
