"""The methods of both clients, written once: arguments, request, and how the reply is decoded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, TypeVar, overload
from urllib.parse import quote

import msgspec

from models.schema import Candidate, FeedbackEvent, HistoryEntry, Profile
from service import wire
from service.client._errors import Faulty
from service.slate_rules import Explore, Rules

Event = FeedbackEvent | bytes
"""An exposure, or one line of a log: the bytes of one JSON object, which only the service parses."""

T = TypeVar("T")
P = ParamSpec("P")

encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the type of its reply."""

    method: str
    path: str
    """Percent-encoded, with its query."""
    reply: type[T]
    body: bytes = b""
    """JSON."""
    deadline_ms: float | None = None
    """Overrides the client's deadline."""
    idempotent: bool = True
    """Sending it twice has the effect of sending it once."""

    def decode(self, content: bytes) -> T:
        """Return the decoded body of a reply with status 200.

        Raises:
            Faulty: the body is not a reply to this call.
        """
        try:
            return msgspec.json.decode(content, type=self.reply)
        except ValueError as e:
            detail = f"The reply to {self.method} {self.path} cannot be decoded: {e}."
            problem = wire.Problem(type="about:blank", title="unreadable", status=200, detail=detail)
            raise Faulty(problem) from e


class _Blocking(Protocol):
    def _send(self, call: Call[T]) -> T: ...


class _Async(Protocol):
    def _send(self, call: Call[T]) -> Awaitable[T]: ...


class _Method(Generic[P, T]):
    """A method that sends the `Call` its function returns, and returns the reply or an awaitable of it."""

    def __init__(self, request: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._request = request
        self.__doc__ = request.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Any, P], Call[T]]: ...
    @overload
    def __get__(self, client: _Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: _Async, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: type) -> Callable[..., Any]:
        if client is None:
            return self._request
        request = self._request.__get__(client)

        @wraps(request)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._send(request(*args, **kwargs))

        return method


class Methods:
    """One method per endpoint. `Client` returns the reply, `AsyncClient` an awaitable of it."""

    @_Method
    def label(
        self,
        events: Iterable[Event],
        *,
        labels: Sequence[str] = (),
        store: bool = True,
        deadline_ms: float | None = None,
    ) -> Call[wire.LabelReply]:
        """Label events and append them to their users' sequences.

        Args:
            events: at most as many as the service accepts in one body.
            labels: names of label makers, by default the bundle's first.
            store: `False` labels only.
            deadline_ms: for this call; by default the client's.

        Raises:
            Refused: also if no event was accepted; `problem.rejected` has the reason of each.
        """
        body = b"[" + b",".join(map(encode_event, events)) + b"]"
        return Call("POST", label_path(labels, store), wire.LabelReply, body, deadline_ms=deadline_ms)

    @_Method
    def rerank(
        self,
        user_id: str,
        candidates: Sequence[Candidate],
        *,
        request_id: str | None = None,
        timestamp_ms: int | None = None,
        top_k: int | None = None,
        weights: Mapping[str, float] | None = None,
        objectives: Sequence[str] | None = None,
        tab: str | None = None,
        rules: Rules | None = None,
        explore: Explore | None = None,
        explain: bool = False,
        deadline_ms: float | None = None,
    ) -> Call[wire.RerankReply]:
        """Rank candidates for one user. The options are those of POST /rerank."""
        options = {
            "request_id": request_id,
            "timestamp_ms": timestamp_ms,
            "top_k": top_k,
            "weights": weights,
            "objectives": objectives,
            "tab": tab,
            "rules": rules,
            "explore": explore,
        }
        body: dict[str, Any] = {"user_id": user_id, "candidates": candidates}
        body |= {name: value for name, value in options.items() if value is not None}
        path = "/rerank?explain=true" if explain else "/rerank"
        return Call("POST", path, wire.RerankReply, encode(body), deadline_ms=deadline_ms)

    @_Method
    def put_videos(self, videos: Sequence[Candidate]) -> Call[wire.Stored]:
        """Upsert catalogue entries, all or none."""
        return Call("PUT", "/videos", wire.Stored, encode(videos))

    @_Method
    def put_users(
        self,
        profiles: Mapping[str, Profile] = MappingProxyType({}),
        histories: Mapping[str, Sequence[HistoryEntry]] = MappingProxyType({}),
    ) -> Call[wire.Stored]:
        """Replace profiles, and histories from before the events, by user id."""
        users: list[dict[str, Any]] = [
            {"user_id": user, "profile": known} for user, known in profiles.items()
        ]
        users += [{"user_id": user, "history": entries} for user, entries in histories.items()]
        return Call("PUT", "/users", wire.Stored, encode(users))

    @_Method
    def sequence(self, user_id: str) -> Call[wire.Sequence]:
        """Return a user's sequence and profile.

        Raises:
            Refused: with status 404, the service does not know the user.
        """
        return Call("GET", f"/users/{_quote(user_id)}/sequence", wire.Sequence)

    @_Method
    def forget(self, user_id: str) -> Call[wire.Forgotten]:
        """Remove a user. After a retry `known` may be false although the first try removed something."""
        return Call("DELETE", f"/users/{_quote(user_id)}", wire.Forgotten)

    @_Method
    def models(self) -> Call[wire.Models]:
        """List the bundle versions and which one is active."""
        return Call("GET", "/v1/models", wire.Models)

    @_Method
    def activate(self, version: str) -> Call[wire.Active]:
        """Make a version the active one."""
        return Call("POST", f"/v1/models/{_quote(version)}:activate", wire.Active)

    @_Method
    def split(self, version: str, share: float) -> Call[wire.Traffic]:
        """Serve a share of the users, 0 to 1, from a version (canary split); 0 ends it."""
        return Call("POST", f"/v1/models/{_quote(version)}:split", wire.Traffic, encode(wire.Share(share)))

    @_Method
    def shadow(self, version: str, share: float) -> Call[wire.Traffic]:
        """Score a share of the requests, 0 to 1, with a version whose answers are discarded; 0 ends it."""
        return Call("POST", f"/v1/models/{_quote(version)}:shadow", wire.Traffic, encode(wire.Share(share)))

    @_Method
    def rollback(self) -> Call[wire.Active]:
        """Go back to the previously active version. Never retried: that would be two steps back."""
        return Call("POST", "/v1/models:rollback", wire.Active, idempotent=False)

    @_Method
    def ready(self) -> Call[wire.Health]:
        """Return the readiness; `degraded` lists what is unavailable.

        Raises:
            Busy: the service is not ready.
        """
        return Call("GET", "/health/ready", wire.Health)

    @_Method
    def health(self) -> Call[wire.Health]:
        """Return the liveness: the process answers."""
        return Call("GET", "/health/live", wire.Health)


def encode_event(event: Event) -> bytes:
    """Return an event on one line. Line breaks of JSON text are only between values."""
    if isinstance(event, bytes):
        return event.replace(b"\n", b" ").replace(b"\r", b" ")
    return encode(event)


def label_path(labels: Sequence[str], store: bool) -> str:
    """Return `/label` with its query."""
    query = [f"labels={quote(','.join(labels))}"] if labels else []
    query += [] if store else ["store=false"]
    return "/label" + ("?" + "&".join(query) if query else "")


def _quote(segment: str) -> str:
    return quote(segment, safe="").replace(".", "%2E")  # `..` would be taken for a step up
