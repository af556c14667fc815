"""Two versions of one exposure -> the one a store keeps. `records.lua` has the same rule.

Commutative, associative and idempotent member by member, so that any order and any repetition of the
versions ends in the same exposure:

    watch_time_s         the longest
    like ... profile_enter   whether any version says so
    duration_s           the longest known
    timestamp_ms         the latest. The earliest would be no less commutative, but could pull an exposure
                         out of the newest L after an older one had already been let go for it
    tab, device, ...     known before unknown; of two known the greater by its bytes: arbitrary, but the same
                         whichever came first
    signals              of each the larger amount, and yes before any
"""

from __future__ import annotations

import math

import msgspec

from models.schema import FLAGS, FeedbackEvent
from service.state.codec import CONTEXT

Signals = dict[str, bool | float]


def merge(one: FeedbackEvent, other: FeedbackEvent) -> FeedbackEvent:
    """What is known of one exposure from two versions of it, which name the same event, user and video."""
    changes: dict[str, object] = {
        "watch_time_s": max(one.watch_time_s, other.watch_time_s),
        "duration_s": max(one.duration_s or 0.0, other.duration_s or 0.0) or None,
        "timestamp_ms": max(one.timestamp_ms, other.timestamp_ms),
    }
    for name in FLAGS:
        changes[name] = getattr(one, name) or getattr(other, name)
    for name in CONTEXT:
        changes[name] = _known(getattr(one, name), getattr(other, name))
    changes["signals"] = _larger(one.signals or {}, other.signals or {}) or None
    return msgspec.structs.replace(one, **changes)


def _larger(one: Signals, other: Signals) -> Signals:
    return one | {name: max(one.get(name, value), value, key=_size) for name, value in other.items()}


def _size(value: bool | float) -> float:
    return math.inf if value is True else value


def _known(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)  # code points and UTF-8 bytes have one order
