"""How a body's events are cut into calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.schema import FeedbackEvent
from service.state.keys import claim, user_tag
from service.state.recording import STEP, USERS, Claims, by_user, steps
from tests.service.stores import event


def many(sizes: list[int]) -> dict[str, list[FeedbackEvent]]:
    return {f"u{u}": [event(f"e{u}-{i}", f"u{u}") for i in range(size)] for u, size in enumerate(sizes)}


bodies = st.one_of(
    st.lists(st.integers(1, 3), max_size=2 * USERS + 20), st.lists(st.integers(1, 2 * STEP + 2), max_size=3)
).map(many)


@given(bodies)
def test_each_call_is_bounded_and_together_they_are_the_body(body: dict[str, list[FeedbackEvent]]) -> None:
    found: dict[str, list[FeedbackEvent]] = {}
    for step in steps(body):
        assert 0 < sum(len(events) for _, events in step) <= STEP
        assert len(step) <= USERS
        for user_id, events in step:
            found.setdefault(user_id, []).extend(events)
    assert found == body
    assert list(found) == list(body)


@given(bodies)
def test_every_event_finds_its_own_claim_again(body: dict[str, list[FeedbackEvent]]) -> None:
    for step in steps(body):
        claims = Claims.of(step)
        memories = list(claims.memories.items())
        taken = [0] * len(memories)
        for (user_id, events), places in zip(step, claims.places, strict=True):
            for one, place in zip(events, places, strict=True):
                memory, entry = claim(user_tag(user_id), one.event_id)
                assert memories[place - 1][0] == memory
                at = taken[place - 1]
                assert memories[place - 1][1][at : at + 12] == entry
                taken[place - 1] += 12
        assert taken == [len(entries) for _, entries in memories]


def test_letters_come_back_in_the_order_of_the_events() -> None:
    step = list(by_user([event(f"e{i}", f"u{i % 3}") for i in range(60)]).items())
    claims = Claims.of(step)
    refused = {e.event_id for _, events in step for e in events[::4]}
    by_claim = {claim(user_tag(user), e.event_id)[1]: e.event_id for user, events in step for e in events}
    answers = [
        b"".join(
            b"n" if by_claim[entries[at : at + 12]] in refused else b"y" for at in range(0, len(entries), 12)
        )
        for entries in claims.memories.values()
    ]
    for (_, events), letters in zip(step, claims.letters(answers), strict=True):
        assert letters == b"".join(b"n" if e.event_id in refused else b"y" for e in events)
