"""What POST /rerank is asked: bytes to one frozen query, with the candidates as columns.

Nearly every body is plain: its ids are printable ASCII and no integers. The decoder itself can check such a
body. Any other is decoded strictly, with a check for each candidate that names what is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Final, Self

import msgspec

from models.errors import Invalid
from models.features import Candidates
from models.schema import (
    MAX_DURATION_S,
    MAX_ID_BYTES,
    MAX_TIMESTAMP_MS,
    MIN_DURATION_S,
    MIN_PUBLISHED_MS,
)
from service.pipeline.decoding import decode
from service.slate_rules import Explore, Rules
from service.wire import RerankRequest


@dataclass(frozen=True, slots=True)
class RerankQuery:
    """A slate to rank for one user; members as in `service.wire.RerankRequest`."""

    user_id: str
    candidates: Candidates
    request_id: str | None = None
    timestamp_ms: int | None = None
    top_k: int | None = None
    weights: dict[str, float] | None = None
    objectives: list[str] | None = None
    tab: str | None = None
    rules: Rules | None = None
    explore: Explore | None = None
    explain: bool = False
    """Whether the slate has an `Explanation`."""
    deadline: float = field(kw_only=True)
    """Moment of `time.perf_counter()` by which the slate must be ranked."""

    @classmethod
    def from_request(cls, request: RerankRequest | _Request, *, explain: bool, deadline: float) -> Self:
        """Return the query of a decoded request."""
        return cls(
            request.user_id,
            Candidates.from_rows(request.candidates),  # type: ignore[arg-type]  # `_Candidate` has the same members
            request.request_id,
            request.timestamp_ms,
            request.top_k,
            request.weights,
            request.objectives,
            request.tab,
            request.rules,
            request.explore,
            explain,
            deadline=deadline,
        )

    def decode(self) -> Self:
        """Return the query itself: it is decoded already."""
        return self


@dataclass(frozen=True, slots=True)
class RerankBody:
    """A query that is still JSON, except what the head of the request holds."""

    content: bytes
    explain: bool
    deadline: float

    @property
    def user_id(self) -> str | None:
        """The user that the body begins with, so that the store read can start before the body is decoded;
        `None` if it begins otherwise. Of a member that comes twice the last one counts."""
        found = _FIRST_MEMBER.match(self.content)
        return found[1].decode() if found else None

    def decode(self) -> RerankQuery:
        """Decode the body.

        Raises:
            NotJson: it is not JSON, or not UTF-8.
            Invalid: a member breaks its rule.
        """
        return self.decode_plain() or self.decode_strictly()

    def decode_plain(self) -> RerankQuery | None:
        """Decode a plain body; return `None` for any other, and for one with a fault."""
        if not _is_plain(self.content):
            return None
        try:
            request = _plain.decode(self.content)
        except (ValueError, RecursionError):
            return None
        return RerankQuery.from_request(request, explain=self.explain, deadline=self.deadline)

    def decode_strictly(self) -> RerankQuery:
        """Decode any body; raises as `decode` does."""
        try:
            request = decode(_strict, self.content)
        except Invalid as e:
            if e.loc != "rules" or "unknown field" not in str(e):
                raise
            raise Invalid(f"{e} The rules are {', '.join(Rules.__struct_fields__)}.", loc=e.loc) from None
        return RerankQuery.from_request(request, explain=self.explain, deadline=self.deadline)


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES)]
_Seconds = Annotated[float, msgspec.Meta(ge=MIN_DURATION_S, le=MAX_DURATION_S)]
_Published = Annotated[int, msgspec.Meta(ge=MIN_PUBLISHED_MS, le=MAX_TIMESTAMP_MS)]


class _Candidate(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    video_id: _Id
    duration_s: _Seconds | None = None
    author_id: _Id | None = None
    tag: _Id | None = None
    published_ms: _Published | None = None


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    user_id: _Id
    candidates: Annotated[list[_Candidate], msgspec.Meta(min_length=1)]
    request_id: _Id | None = None
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_MS)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    weights: dict[str, float] | None = None
    objectives: list[str] | None = None
    tab: _Id | None = None
    rules: Rules | None = None
    explore: Explore | None = None


_plain: Final = msgspec.json.Decoder(_Request)
_strict: Final = msgspec.json.Decoder(RerankRequest)
_FIRST_MEMBER: Final = re.compile(rb'\s*\{\s*"user_id"\s*:\s*"([ !#-\[\]-~]{1,%d})"' % MAX_ID_BYTES)


def _is_plain(body: bytes) -> bool:
    """Return whether every text is printable ASCII: JSON has no other control characters unescaped."""
    return body.isascii() and b"\\" not in body and b"\x7f" not in body
