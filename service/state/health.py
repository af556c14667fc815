"""What of the store is not as it should be: for readiness, a gauge and the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final

from models.errors import StoreUnavailable
from service.state.guarded import GuardedStore

log = logging.getLogger("reelrank.store")

PING_S: Final = 0.25
"""How long readiness waits for the store before it reports it as away."""
POLICY_S: Final = 60.0
"""How often the server's configuration is looked at, besides at the start."""


class StoreHealth:
    """The health of one store.

    Args:
        store: behind its circuits.
        report_risks: called with the risks that were found, at each look.
    """

    def __init__(self, store: GuardedStore, report_risks: Callable[[Collection[str]], None]) -> None:
        self._store = store
        self._report_risks = report_risks
        self._risks: dict[str, str] = {}

    async def degraded(self) -> list[str]:
        """Return what is degraded: `store` (it does not answer) or `store_writes` (it answers, and the last
        write failed), and `store_policy` (its configuration may lose events)."""
        degraded = []
        try:
            async with asyncio.timeout(PING_S):
                await self._store.ping()
            if self._store.writes_fail():
                degraded.append("store_writes")
        except (StoreUnavailable, TimeoutError):
            degraded.append("store")
        if self._risks.keys() - {"unchecked"}:
            degraded.append("store_policy")
        return degraded

    async def check_policy(self) -> None:
        """Look at the server's configuration. What may lose events is logged when it is new; a store that is
        away is looked at the next time."""
        try:
            risks = await self._store.risks()
        except StoreUnavailable:
            return
        for risk, text in risks.items():
            if risk not in self._risks:
                log.warning("the store may lose events: %s", text)
        self._risks = dict(risks)
        self._report_risks(risks)
