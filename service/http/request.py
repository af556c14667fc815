"""What handlers read off a request (deadline, content type, body, flags), and their JSON replies."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from models.errors import BodyTooLarge, BodyTooSlow, DeadlineExceeded, Invalid, Overloaded, WrongContentType
from service.overload.budget import Budget, Permit
from service.overload.event_loop_lag import EventLoopLagMonitor
from service.settings import Settings
from service.telemetry.trace import current_trace

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


class RequestReader:
    """Reads deadlines and bodies within the limits of one worker.

    Args:
        settings: the limits.
        bodies: capacity in bytes for bodies that are still arriving.
        lag: of the event loop.
    """

    def __init__(self, settings: Settings, bodies: Budget, lag: EventLoopLagMonitor) -> None:
        self._settings = settings
        self._bodies = bodies
        self._lag = lag

    def deadline(self, request: Request, default_ms: float) -> float:
        """Return the moment of `time.perf_counter()` by which the request must be answered.

        The time counts from when the request was read off the connection, less what the event loop was late
        by: the request has waited for that too.

        Args:
            request: with `X-Deadline-Ms` or without.
            default_ms: without.

        Raises:
            Invalid: the header is not a time.
            Overloaded: the time is up already; nothing was done.
        """
        text = request.headers.get("x-deadline-ms")
        timeout_ms = default_ms if text is None else _milliseconds(text)
        deadline = current_trace().started + timeout_ms / 1e3 - self._lag.lag_s
        if time.perf_counter() >= deadline:
            raise Overloaded(
                f"{timeout_ms:g} ms were over before the request was looked at; nothing was done. Repeat it "
                "after `Retry-After`, or give it longer (`X-Deadline-Ms`).",
                reason="deadline_exceeded",
            )
        return deadline

    @contextlib.asynccontextmanager
    async def time_limit(self, request: Request) -> AsyncIterator[float]:
        """Cancel what uses the store when the request's deadline passes, which it yields.

        Raises:
            DeadlineExceeded: it has. A write may have been done or not; all writes may be repeated.
        """
        deadline = self.deadline(request, self._settings.label_deadline_ms)
        try:
            async with asyncio.timeout(deadline - time.perf_counter()):
                yield deadline
        except TimeoutError:
            timeout_ms = (deadline - current_trace().started) * 1e3
            raise DeadlineExceeded(
                f"It took longer than {timeout_ms:.0f} ms. What it writes may be stored or not; "
                "sending all of it again is safe."
            ) from None

    async def json(self, request: Request) -> bytes:
        """Return the whole body of type `application/json`; raises as `content_type` and `body` do."""
        content_type(request, JSON)
        return await self.body(request)

    async def body(self, request: Request) -> bytes:
        """Return the whole body, whether its length was announced or it comes in chunks.

        Raises:
            BodyTooLarge: it is over the limit; no more bytes than that are ever held.
            BodyTooSlow: it has not arrived in time.
            Overloaded: too much is held of all bodies that are still arriving.
        """
        limit, timeout_s = self._settings.max_body_bytes, self._settings.body_timeout_s
        announced = request.headers.get("content-length", "")
        length = int(announced[:20]) if announced.isdecimal() else -1
        if length > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        try:
            with contextlib.ExitStack() as stack:
                permit: Permit | None = None
                async with asyncio.timeout(timeout_s):
                    async for part in request.stream():
                        size += len(part)
                        if size > limit:
                            raise _too_large(limit)
                        if size != length:  # a body that has arrived whole needs no permit
                            permit = permit or stack.enter_context(self._bodies.take(0))
                            permit.add(len(part))
                        parts.append(part)
        except TimeoutError:
            raise BodyTooSlow(
                f"{size} bytes of the body came within {timeout_s:g} s and not its end "
                "(REELRANK_BODY_TIMEOUT_S)."
            ) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)


def content_type(request: Request, *allowed: str) -> str:
    """Return the allowed type that the body has. A body without a type has none: a browser's form sends that
    too.

    Raises:
        WrongContentType: another type, another charset than UTF-8, or a compressed body.
    """
    headers = request.headers
    mime, _, parameters = headers.get("content-type", "").partition(";")
    mime = mime.strip().lower()
    if mime not in allowed:
        raise WrongContentType(f"Content-Type must be {' or '.join(allowed)}, found {mime or 'none'!r}.")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise WrongContentType(f"The charset must be UTF-8, found {charset[1]!r}.")
    if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise WrongContentType("Compressed bodies are not read; send it without Content-Encoding.")
    return mime


def flag(request: Request, name: str, *, default: bool) -> bool:
    """Return a query parameter `true` or `false`.

    Raises:
        Invalid: it is something else.
    """
    value = request.query_params.get(name) if request.scope["query_string"] else None
    if value is None:
        return default
    if value.lower() in ("true", "1"):
        return True
    if value.lower() in ("false", "0"):
        return False
    raise Invalid(f"`{name}` must be true or false, found {value!r}.", loc=name)


def json_response(reply: object) -> Response:
    """Return a reply as JSON."""
    return Response(msgspec.json.encode(reply), media_type=JSON)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit} bytes (REELRANK_MAX_BODY_BYTES).")


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise Invalid(f"X-Deadline-Ms must be a number of milliseconds above 0, found {text[:32]!r}.")
    return value
