"""A body of POST /rerank -> what is asked, with the candidates by columns.

Nearly every body is as it should be in the plainest way: ids are printable ASCII, no integers. Such a one
passes the checks that the decoder itself can make. Any other is decoded strictly, a check of our own for each
candidate, which finds out what is wrong and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Self

import msgspec

from models.features import Candidates
from models.schema import MAX_DURATION_S, MAX_ID_BYTES, MAX_TIMESTAMP_MS, MIN_DURATION_S
from service.http import body as bodies
from service.wire import RerankRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """A slate to be ordered for one user, see `RerankRequest`."""

    user_id: str
    candidates: Candidates
    request_id: str | None = None
    timestamp_ms: int | None = None
    top_k: int | None = None
    weights: dict[str, float] | None = None
    objectives: list[str] | None = None
    tab: str | None = None

    @classmethod
    def of(cls, request: RerankRequest) -> Self:
        """The same, from a request that was decoded strictly."""
        return cls(
            request.user_id,
            Candidates.from_rows(request.candidates),
            request.request_id,
            request.timestamp_ms,
            request.top_k,
            request.weights,
            request.objectives,
            request.tab,
        )


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES)]
_Seconds = Annotated[float, msgspec.Meta(ge=MIN_DURATION_S, le=MAX_DURATION_S)]


class _Candidate(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    video_id: _Id
    duration_s: _Seconds | None = None
    author_id: _Id | None = None
    tag: _Id | None = None


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    user_id: _Id
    candidates: Annotated[list[_Candidate], msgspec.Meta(min_length=1)]
    request_id: _Id | None = None
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_MS)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    weights: dict[str, float] | None = None
    objectives: list[str] | None = None
    tab: _Id | None = None


class _Whose(msgspec.Struct, gc=False):
    user_id: _Id


_plain: Final = msgspec.json.Decoder(_Request)
_strict: Final = msgspec.json.Decoder(RerankRequest)
_whose: Final = msgspec.json.Decoder(_Whose)


def whose(body: bytes) -> str | None:
    """The user that a body asks for, found without a look at the rest, so that what the store holds on them
    can be on its way meanwhile. `None` if it is not plain to see."""
    try:
        return _whose.decode(body).user_id if _is_plain(body) else None
    except (ValueError, RecursionError):
        return None


def read(body: bytes) -> Asked:
    """What a body asks.

    Raises:
        NotJson: it is not JSON, or not UTF-8.
        Invalid: a member breaks its rule.
    """
    return _read_plain(body) or Asked.of(bodies.decode(_strict, body))


def _read_plain(body: bytes) -> Asked | None:
    """The same, or `None` for a body that has to be looked at more closely."""
    if not _is_plain(body):
        return None
    try:
        found = _plain.decode(body)
    except (ValueError, RecursionError):
        return None
    rows = found.candidates
    columns = Candidates(
        [c.video_id for c in rows],
        [c.duration_s for c in rows],
        [c.author_id for c in rows],
        [c.tag for c in rows],
    )
    return Asked(
        found.user_id,
        columns,
        found.request_id,
        found.timestamp_ms,
        found.top_k,
        found.weights,
        found.objectives,
        found.tab,
    )


def _is_plain(body: bytes) -> bool:
    """Whether every text in it is printable ASCII: JSON has no other control characters unescaped."""
    return body.isascii() and b"\\" not in body and b"\x7f" not in body
