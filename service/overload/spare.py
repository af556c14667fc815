"""Capacity that requests leave: what previews may use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from models.errors import Overloaded
from service.overload.budget import Budget

BUSY_SHARE: Final = 0.25
"""Share of a budget in use above which there is nothing to spare."""

MAX_PREVIEWS: Final = 4
"""Previews of one process at a time: a person looks at one or two, and nothing waits for them."""


class SpareCapacity:
    """Room for a few previews while requests leave most of the process idle.

    Args:
        budgets: of requests. Previews take nothing of them, so that they never cause a refusal.
    """

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self._budgets = budgets
        self._in_flight = 0

    @contextmanager
    def take(self, size: int, time_left_s: float = 0.0, caller: int = 0) -> Iterator[None]:
        """Let a preview pass, until the end of the `with` block. The arguments, those of `Budget.take`, do
        not matter.

        Raises:
            Overloaded: requests use more than `BUSY_SHARE` of a budget, or there are `MAX_PREVIEWS` already.
        """
        busy = any(budget.used > BUSY_SHARE * budget.capacity() for budget in self._budgets)
        if busy or self._in_flight >= MAX_PREVIEWS:
            raise Overloaded(
                "Previews are for when the process has little else to do. Repeat it after `Retry-After`.",
                reason="previews",
                retry_after_s=1.0,
            )
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
