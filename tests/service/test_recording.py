"""How a body's events are cut into calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.schema import FeedbackEvent
from service.state.keys import claim, user_tag
from service.state.recording import (
    MAX_EVENTS,
    MAX_USERS,
    claims_of,
    group_by_user,
    refused_ids,
    split_into_calls,
    without_refused,
)
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


@given(bodies)
def test_every_event_claims_its_id_in_the_shard_of_its_id(body: dict[str, list[FeedbackEvent]]) -> None:
    for call in split_into_calls(body):
        claims = claims_of(call)
        entries = {
            (shard, data[start : start + 12])
            for shard, data in claims.items()
            for start in range(0, len(data), 12)
        }
        assert entries == {claim(user_tag(user), e.event_id) for user, events in call for e in events}


def test_only_events_whose_claims_are_refused_are_left_out() -> None:
    call = list(group_by_user([event(f"e{i}", f"u{i % 3}") for i in range(60)]).items())
    strangers = {("u0", "e0"), ("u0", "e3"), ("u2", "e59")} | {("u1", e.event_id) for e in dict(call)["u1"]}
    refused = b"".join(claim(user_tag(user), event_id)[1] for user, event_id in strangers)
    assert refused_ids(call, refused) == strangers
    kept = without_refused(call, strangers)
    assert [user for user, _ in kept] == ["u0", "u2"]
    assert {(user, e.event_id) for user, events in kept for e in events} == {
        (user, e.event_id) for user, events in call for e in events
    } - strangers
