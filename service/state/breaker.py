"""A circuit breaker: a store that does not answer is probed by one call at a time, not by all."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from models.errors import StoreUnavailable

State = Literal["closed", "half_open", "open"]

FAILURES: Final = 5
"""So many unanswered calls …"""
WINDOW: Final = 10
"""… among so many open the circuit: five in a row, or every second one."""
OPEN_S: Final = 0.5
"""From opening until a call is let through to see: what a recovery takes at most, and short enough that
the time-out of the probe is a small part of all requests' time."""

MIN_WAIT_TO_COUNT_S: Final = 0.02
"""A cancelled call proves nothing about the store if it waited less than this."""


class Breaker:
    """Closed, calls pass. Open, they fail at once. After a while it is half open: one call passes as a probe;
    if it is answered the circuit closes, if not it is open for as long again.

    Every call is an `enter` and, with the number that it gave, a `leave`. Calls that began before the last
    change of state say nothing about the present one, so their outcome is ignored.

    Args:
        failures: unanswered calls that open it, among the last `window`.
        window: calls that are looked back on.
        open_s: seconds from opening to the probe.
        clock: seconds that never go back.
        changed: called with every new state.
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        window: int = WINDOW,
        open_s: float = OPEN_S,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[State], None] = lambda state: None,
    ) -> None:
        self._failures = failures
        self._open_s = open_s
        self._clock = clock
        self._changed = changed
        self._state: State = "closed"
        self._turn = 0
        self._until = 0.0
        self._last: deque[bool] = deque(
            maxlen=window
        )  # empty while all is well: the usual call costs nothing

    @property
    def state(self) -> State:
        """As the last call left it: an open circuit becomes half open only by a call."""
        return self._state

    def enter(self) -> int:
        """Begin a call.

        Returns:
            The turn to pass to `leave`.

        Raises:
            StoreUnavailable: the circuit is open, or a probe is out.
        """
        if self._state == "closed":
            return self._turn
        if self._state == "open" and self._clock() >= self._until:
            self._become("half_open")
            return self._turn
        raise StoreUnavailable(
            f"The store has left its last calls unanswered and is not waited for; every {self._open_s:g} s "
            "one call tries again. Repeat the request in a moment.",
            reason="circuit_open",
        )

    def leave(self, turn: int, answered: bool | None) -> None:
        """Record how a call ended.

        Args:
            turn: from its `enter`.
            answered: the store replied, be it with an error; `None` if that is unknown.
        """
        if turn != self._turn:
            return
        if self._state == "half_open":
            if answered:
                self._become("closed")
            else:
                self._until = self._clock() + (self._open_s if answered is False else 0.0)
                self._become("open")
        elif answered is False or (answered and self._last):
            self._last.append(answered)
            unanswered = self._last.count(False)
            if unanswered >= self._failures:
                self._until = self._clock() + self._open_s
                self._become("open")
            elif not unanswered:
                self._last.clear()

    def _become(self, state: State) -> None:
        self._state = state
        self._turn += 1
        self._last.clear()
        self._changed(state)


class Circuit:
    """A breaker around calls that raise or are cancelled.

    Args:
        breaker: of these calls.
        answered: whether an error is an answer of the store, `None` if that is unknown.
        given_up: called when a cancelled call counts as unanswered.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        breaker: Breaker,
        *,
        answered: Callable[[Exception], bool | None],
        given_up: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.breaker = breaker
        self._answered = answered
        self._given_up = given_up
        self._clock = clock
        self._answered_at = float("-inf")

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count the call inside.

        Raises:
            StoreUnavailable: the circuit is open.
        """
        turn, started = self.breaker.enter(), self._clock()
        answered: bool | None = None
        try:
            yield
            answered = True
        except asyncio.CancelledError:
            # The caller's deadline passed. A frozen store gives no other sign; on a busy event loop other
            # calls have been answered meanwhile.
            if self._clock() - started >= MIN_WAIT_TO_COUNT_S and self._answered_at < started:
                answered = False
                self._given_up()
            raise
        except Exception as e:
            answered = self._answered(e)
            raise
        finally:
            if answered:
                self._answered_at = self._clock()
            self.breaker.leave(turn, answered)
