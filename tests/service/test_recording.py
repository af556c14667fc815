"""How a body's events are cut into calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.schema import FeedbackEvent
from service.state import codec
from service.state.recording import MAX_EVENTS, MAX_USERS, UNREADABLE, Batch, split_into_calls
from tests.service.stores import event


def many(sizes: list[int]) -> dict[str, list[FeedbackEvent]]:
    return {f"u{u}": [event(f"e{u}-{i}", f"u{u}") for i in range(size)] for u, size in enumerate(sizes)}


bodies = st.one_of(
    st.lists(st.integers(1, 3), max_size=2 * MAX_USERS + 20),
    st.lists(st.integers(1, 2 * MAX_EVENTS + 2), max_size=3),
).map(many)


@given(bodies)
def test_each_call_is_bounded_and_together_they_are_the_body(body: dict[str, list[FeedbackEvent]]) -> None:
    together: dict[str, list[FeedbackEvent]] = {}
    for call in split_into_calls(body):
        assert 0 < sum(len(events) for _, events in call) <= MAX_EVENTS
        assert len(call) <= MAX_USERS
        for user_id, events in call:
            together.setdefault(user_id, []).extend(events)
    assert together == body
    assert list(together) == list(body)


def test_only_events_of_other_users_ids_are_left_out() -> None:
    claims = [None, True, False, None]
    batch = Batch("alice", [event(f"e{i}", "alice") for i in range(4)], claims)
    assert [e.event_id for e in batch.kept] == ["e0", "e1", "e3"]
    assert batch.claimed == b"010"
    outcomes = batch.outcomes(b"ada", codec.encode_events(batch.events[1:2]))
    assert [o.kind for o in outcomes] == ["accepted", "duplicate", "conflict", "accepted"]
    assert [o.kind for o in batch.outcomes(UNREADABLE, b"why")] == ["unreadable"] * 2 + [
        "conflict",
        "unreadable",
    ]
