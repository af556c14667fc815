"""How long a connection is waited for: the head of a request must come, and an answer must be taken."""

from __future__ import annotations

import asyncio
from time import perf_counter

from service.server.strict_protocol import Protocol


class Patient(Protocol):
    """The protocol of a connection, with an end to waiting, and a note of when a request came.

    A connection that sends nothing, or a head that does not end, is closed without a word: there is no
    request that could be answered. Between requests uvicorn's keep-alive time-out counts. Use `patient`.

    Attributes:
        head_s: seconds for a head, from its first byte or from the connection's beginning.
    """

    head_s: float
    _head_due: asyncio.TimerHandle | None = None
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Somebody has come; a request should."""
        super().connection_made(transport)
        self._head_due = self.loop.call_later(self.head_s, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Read on. A timer is set only for a head that has not come in one piece."""
        super().data_received(data)
        if not self._in_head:
            self._at_ease()
        elif self._head_due is None and not self.transport.is_closing():
            self._head_due = self.loop.call_later(self.head_s, self._give_up)

    def on_message_begin(self) -> None:
        """The first bytes of a head."""
        self._in_head = True
        super().on_message_begin()
        self.scope["reelrank.arrived"] = perf_counter()  # type: ignore[typeddict-unknown-key]  # for `Trace`

    def on_headers_complete(self) -> None:
        """Its end."""
        self._in_head = False
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever it was has gone."""
        self._at_ease()
        super().connection_lost(exc)

    def _at_ease(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _give_up(self) -> None:
        self._head_due = None
        if not self.transport.is_closing():
            self.transport.close()


def patient(head_s: float) -> type[Patient]:
    """The class with this patience: uvicorn makes the instances."""
    return type("Patient", (Patient,), {"head_s": head_s})
