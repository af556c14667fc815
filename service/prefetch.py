"""A call that begins at once, without a task of its own."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class Prefetch(Generic[R]):
    """A coroutine that has run up to its first wait. Awaited, at most once, it goes on from there.

    A task would begin a turn of the event loop later, and costs as much as the call itself. A prefetch
    belongs to the task that made it, which awaits nothing else before: a time-out inside has begun.

    Args:
        call: not awaited yet.
    """

    def __init__(self, call: Coroutine[Any, Any, R]) -> None:
        self._call = call
        self._end: Exception | None = None
        try:
            self._waits_for = call.send(None)
        except Exception as end:  # with the result, if it is a `StopIteration`
            self._end = end

    def __await__(self) -> Generator[Any, Any, R]:
        if self._end is not None:
            if isinstance(self._end, StopIteration):
                result: R = self._end.value
                return result
            raise self._end
        while True:
            try:
                step = partial(self._call.send, (yield self._waits_for))
            except BaseException as e:  # a cancellation, thrown in
                step = partial(self._call.throw, e)
            try:
                self._waits_for = step()
            except StopIteration as end:
                result = end.value
                return result

    def close(self) -> None:
        """End a call that is not awaited; does nothing to one that has ended."""
        self._call.close()
