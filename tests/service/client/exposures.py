"""Events as the client takes them."""

from __future__ import annotations

from models.schema import FeedbackEvent
from tests.service.running import NOW_MS


def exposure(event_id: str, user_id: str, **members: float | bool | str) -> FeedbackEvent:
    """Half of a 24 s video watched."""
    given = {"video_id": "v1", "timestamp_ms": NOW_MS, "watch_time_s": 12.0, "duration_s": 24.0} | members
    return FeedbackEvent(event_id=event_id, user_id=user_id, **given)  # type: ignore[arg-type]  # checked there
