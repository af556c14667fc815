"""The time a request may take: from when it was read off the connection, whoever it waits for."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

from starlette.requests import Request

from models.errors import DeadlineExceeded, Invalid
from service.services import services_of, trace_of


def deadline_s(request: Request, default_ms: float) -> float:
    """Seconds from `trace.started` by which the answer must be there, from `X-Deadline-Ms` or the default.

    What the event loop was late by is taken off: the request has waited for that too.

    Raises:
        Invalid: the header is not a time.
        DeadlineExceeded: the time is up already; nothing was done.
    """
    asked_ms = _asked_ms(request, default_ms)
    left_s = asked_ms / 1e3 - services_of(request).beat.lag_s
    if trace_of(request).elapsed_s() >= left_s:
        raise DeadlineExceeded(f"{asked_ms:g} ms were over before the request was looked at.")
    return left_s


@contextlib.asynccontextmanager
async def in_time(request: Request) -> AsyncIterator[None]:
    """End what uses the store when the request's time is up.

    Raises:
        DeadlineExceeded: it is. A write may have been done or not; all writes may be repeated.
    """
    seconds = deadline_s(request, services_of(request).settings.label_deadline_ms)
    try:
        async with asyncio.timeout(seconds - trace_of(request).elapsed_s()):
            yield
    except TimeoutError:
        raise DeadlineExceeded(
            f"It took longer than {seconds * 1e3:.0f} ms. What it writes may be stored or not; "
            "sending all of it again is safe."
        ) from None


def _asked_ms(request: Request, default_ms: float) -> float:
    text = request.headers.get("x-deadline-ms")
    if text is None:
        return default_ms
    try:
        asked_ms = float(text)
    except ValueError:
        asked_ms = math.nan
    if not 0 < asked_ms < math.inf:
        raise Invalid(f"X-Deadline-Ms must be a number of milliseconds above 0, found {text[:32]!r}.")
    return asked_ms
