"""What each method of the clients sends and how its answer is read: the part that needs no connection."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote

import msgspec

from models.schema import Candidate, FeedbackEvent, Profile, Video
from service import wire
from service.client._errors import Faulty, Refused
from service.wire import Rejected

Event = FeedbackEvent | bytes
"""An exposure, or one as it is in a log: the bytes of one JSON object, read by the service only."""

JSON: Final = {"content-type": "application/json"}
NDJSON: Final = {"content-type": "application/x-ndjson"}

T = TypeVar("T")

encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request."""

    method: str
    path: str
    """Percent-encoded, with its query."""
    decode: Callable[[bytes], T]
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    """Done twice, it is as if done once."""

    def read(self, content: bytes) -> T:
        """The answer's body.

        Raises:
            Faulty: it is not what this call is answered with.
        """
        try:
            return self.decode(content)
        except ValueError as e:
            detail = f"{self.method} {self.path} was answered with what this client cannot read: {e}."
            raise Faulty(
                wire.Problem(type="about:blank", title="unreadable", status=200, detail=detail)
            ) from e


def _reader(kind: type[T]) -> Callable[[bytes], T]:
    return msgspec.json.Decoder(kind).decode


_label_reply: Final = _reader(wire.LabelReply)
_rerank_reply: Final = _reader(wire.RerankReply)
_stored: Final = _reader(wire.Stored)
_sequence: Final = _reader(wire.Sequence)
_forgotten: Final = _reader(wire.Forgotten)
_models: Final = _reader(wire.Models)
_active: Final = _reader(wire.Active)
_traffic: Final = _reader(wire.Traffic)
_health: Final = _reader(wire.Health)


def line(event: Event) -> bytes:
    """An event on one line. In JSON a line break can only be between values."""
    if isinstance(event, bytes):
        return event.replace(b"\n", b" ").replace(b"\r", b" ")
    return encode(event)


def label_path(labels: Sequence[str], store: bool) -> str:
    """`/label` with its query."""
    asked = [f"labels={quote(','.join(labels))}"] if labels else []
    asked += [] if store else ["store=false"]
    return "/label" + ("?" + "&".join(asked) if asked else "")


def label(events: Iterable[Event], labels: Sequence[str], store: bool) -> Call[wire.LabelReply]:
    body = b"[" + b",".join(map(line, events)) + b"]"
    return Call("POST", label_path(labels, store), _label_reply, body, JSON)


def rerank(
    user_id: str, candidates: Sequence[Candidate], explain: bool, more: Mapping[str, Any]
) -> Call[wire.RerankReply]:
    asked = {"user_id": user_id, "candidates": candidates}
    asked |= {name: value for name, value in more.items() if value is not None}
    return Call("POST", "/rerank" + ("?explain=true" if explain else ""), _rerank_reply, encode(asked), JSON)


def put_videos(videos: Sequence[Video]) -> Call[wire.Stored]:
    return Call("PUT", "/videos", _stored, encode(videos), JSON)


def put_users(profiles: Mapping[str, Profile]) -> Call[wire.Stored]:
    users = [{"user_id": user_id, "profile": profile} for user_id, profile in profiles.items()]
    return Call("PUT", "/users", _stored, encode(users), JSON)


def sequence(user_id: str) -> Call[wire.Sequence]:
    return Call("GET", f"/users/{quote(user_id, safe='')}/sequence", _sequence)


def forget(user_id: str) -> Call[wire.Forgotten]:
    return Call("DELETE", f"/users/{quote(user_id, safe='')}", _forgotten)


def models() -> Call[wire.Models]:
    return Call("GET", "/v1/models", _models)


def activate(version: str) -> Call[wire.Active]:
    return Call("POST", f"/v1/models/{quote(version, safe='')}:activate", _active)


def trial(version: str, role: Literal["split", "shadow"], share: float) -> Call[wire.Traffic]:
    return Call(
        "POST", f"/v1/models/{quote(version, safe='')}:{role}", _traffic, encode(wire.Share(share)), JSON
    )


def rollback() -> Call[wire.Active]:
    return Call("POST", "/v1/models:rollback", _active, repeatable=False)


def health(which: str) -> Call[wire.Health]:
    return Call("GET", f"/health/{which}", _health)


def batches(events: Iterable[Event], size: int) -> Iterator[tuple[int, list[Event]]]:
    """Parts of at most `size` events, each with the position of its first."""
    first, source = 0, iter(events)
    while batch := list(itertools.islice(source, size)):
        yield first, batch
        first += len(batch)


def placed(reply: wire.LabelReply, first: int) -> wire.LabelReply:
    """The reply to one batch, its rejections at their positions in the whole."""
    if not reply.rejected or not first:
        return reply
    moved = [msgspec.structs.replace(r, index=r.index + first) for r in reply.rejected]
    return msgspec.structs.replace(reply, rejected=moved)


def all_rejected(error: Refused) -> wire.LabelReply:
    """The reply to a batch of which no event went through.

    Raises:
        Refused: the error itself, if it is about the request and not about its events.
    """
    rejected: list[Rejected] = error.problem.rejected
    if not rejected:
        raise error
    return wire.LabelReply(
        status="ok",
        accepted=0,
        duplicates=0,
        merged=0,
        rejected=rejected,
        labels=[],
        model_version="",
        took_ms=0.0,
    )
