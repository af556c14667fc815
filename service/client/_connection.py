"""What the blocking and the awaited client share: where the service is and how requests to it are made."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any, TypeVar

import httpx2

from models.errors import BadInput
from service.client import _calls as calls
from service.client._calls import Call
from service.client._errors import Unreachable, error_of
from service.client._retries import Attempts, Budget, Retries
from service.client._stream import Stream

T = TypeVar("T")

NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)


class Connection:
    """See `Client` for the arguments.

    Raises:
        BadInput: the URL is none of `http://` or `https://`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        timeout_s: float,
        deadline_ms: float | None,
        retries: Retries,
        tls: ssl.SSLContext | None,
    ) -> None:
        try:
            parts = httpx2.URL(url)
        except httpx2.InvalidURL as e:
            raise BadInput(f"{url!r} is not a URL: {e}. Write e.g. http://127.0.0.1:8000.") from None
        if parts.scheme not in ("http", "https") or not parts.host:
            raise BadInput(f"{url!r} is not where a service can be. Write e.g. http://127.0.0.1:8000.")
        self.url = url.rstrip("/")
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.verify: ssl.SSLContext | bool = True if tls is None else tls
        self._tls = tls
        self._timeout_s = timeout_s
        self._deadline_s = None if deadline_ms is None else deadline_ms / 1e3
        self._retries = retries
        self._budget = Budget(retries)

    def attempts(self, call: Call[T], deadline_ms: float | None) -> Attempts:
        """The tries of a call that begins now."""
        deadline_s = self._deadline_s if deadline_ms is None else deadline_ms / 1e3
        return Attempts(self._retries, self._budget, repeatable=call.repeatable, deadline_s=deadline_s)

    def arguments(self, call: Call[T], left_s: float | None) -> dict[str, Any]:
        """What the HTTP client is given for one try."""
        headers = dict(call.headers)
        if left_s is not None:
            headers["x-deadline-ms"] = f"{left_s * 1e3:.0f}"
        return {
            "method": call.method,
            "url": call.path,
            "content": call.body or None,
            "headers": headers,
            "timeout": self._timeout_s if left_s is None else left_s,
        }

    def read(self, call: Call[T], reply: httpx2.Response) -> T:
        """The answer.

        Raises:
            ServiceError: it is not the one that was asked for.
        """
        if reply.status_code != 200:
            raise error_of(reply.status_code, reply.headers, reply.content)
        return call.read(reply.content)

    def unreachable(self, error: Exception) -> Unreachable:
        """No answer came."""
        said = str(error) or type(error).__name__
        return Unreachable(f"No service answers at {self.url}: {said}.", sent=not isinstance(error, NOT_SENT))

    def stream(self, labels: Sequence[str], store: bool) -> Stream:
        """How to stream events there."""
        return Stream(
            self.url,
            calls.label_path(labels, store),
            {**self.headers, **calls.NDJSON},
            self._timeout_s,
            self._tls,
        )
