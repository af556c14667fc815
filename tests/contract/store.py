"""What every store promises. A store's test is a subclass with a `store` fixture that keeps `LENGTH`
exposures a user, remembers events for `WINDOW_S` and goes by `clock`."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from models.features import HISTORY_LENGTH
from models.schema import FeedbackEvent, HistoryEntry, Video
from service.state import Outcome, Store
from tests.service.stores import WINDOW_S, Clock, event

FULL: dict[str, Any] = {
    "session_id": "s 1",
    "tab": "1",
    "device": "phone",
    "author_id": "007",
    "tag": "39",
    "like": True,
    "hate": True,
    "signals": {"favorite": True, "stars": 4.5},
}


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [outcome.kind for outcome in outcomes]


async def events_of(store: Store, user_id: str = "alice") -> list[FeedbackEvent]:
    state = await store.read(user_id)
    assert state is not None
    return state.events


async def ids_of(store: Store, user_id: str = "alice") -> list[str]:
    return [e.event_id for e in await events_of(store, user_id)]


@pytest.mark.anyio
class StoreContract:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, clock: Clock) -> Store:
        raise AssertionError("a subclass provides its store")

    async def test_an_unknown_user_is_none(self, store: Store) -> None:
        assert await store.read("alice") is None

    async def test_it_answers(self, store: Store) -> None:
        await store.ping()

    async def test_an_empty_batch_changes_nothing(self, store: Store) -> None:
        assert await store.record("alice", []) == []
        assert await store.read("alice") is None

    @pytest.mark.parametrize("members", [{}, FULL, {"duration_s": None}, {"tag": "0"}, {"device": "é" * 128}])
    async def test_an_event_comes_back_as_it_was_sent(self, store: Store, members: dict[str, Any]) -> None:
        sent = event(**members)
        assert await store.record("alice", [sent]) == [Outcome("accepted", sent)]
        assert await events_of(store) == [sent]

    async def test_the_slate_that_showed_a_video_is_not_kept(self, store: Store) -> None:
        for request_id, kind in (("r1", "accepted"), ("r2", "duplicate")):
            shown = event(request_id=request_id, position=1)
            assert await store.record("alice", [shown]) == [Outcome(kind, event())]  # type: ignore[arg-type]
        assert await events_of(store) == [event()]

    @pytest.mark.parametrize("watch", [0.0, 0.001, 48.4, 59.999, 123.456, 604_800.0])
    async def test_seconds_come_back_as_the_decimals_that_were_sent(self, store: Store, watch: float) -> None:
        await store.record("alice", [event(watch_time_s=watch)])
        assert [e.watch_time_s for e in await events_of(store)] == [watch]

    async def test_finer_seconds_than_are_kept_are_still_a_duplicate(self, store: Store) -> None:
        for name, watch in (("e1", 48.400000123), ("e2", 1e-300), ("e3", 1 / 3)):
            sent = event(name, watch_time_s=watch, duration_s=0.001)
            [first] = await store.record("alice", [sent])
            assert await store.record("alice", [sent]) == [Outcome("duplicate", first.event)]
            assert first.event == (await events_of(store))[-1]

    async def test_events_lie_by_time_then_by_the_bytes_of_their_ids(self, store: Store) -> None:
        batch = [event(i, after_ms=0) for i in ("é", "9", "10")]
        await store.record("alice", batch)
        assert await ids_of(store) == ["10", "9", "é"]
        await store.record("alice", [event("0", after_ms=1), event("Z", after_ms=1), event("a", after_ms=1)])
        assert await ids_of(store) == ["0", "Z", "a"]

    async def test_the_newest_are_kept_whatever_order_they_came_in(self, store: Store) -> None:
        for i in (3, 5, 1, 4, 2):
            await store.record("alice", [event(f"e{i}", after_ms=i)])
        assert await ids_of(store) == ["e3", "e4", "e5"]

    async def test_a_batch_longer_than_the_sequence_keeps_the_newest(self, store: Store) -> None:
        outcomes = await store.record("alice", [event(f"e{i}", after_ms=i) for i in range(9)])
        assert kinds(outcomes) == ["accepted"] * 9
        assert await ids_of(store) == ["e6", "e7", "e8"]

    async def test_users_do_not_see_each_other(self, store: Store) -> None:
        await store.record("alice", [event("e1")])
        await store.record("bob", [event("e2", "bob")])
        assert await ids_of(store, "alice") == ["e1"]
        assert await ids_of(store, "bob") == ["e2"]

    @pytest.mark.parametrize("user_id", ["a}b", "}", "{", "{}x", "%7D", "*", "é" * 128, "7"])
    async def test_any_user_id_will_do(self, store: Store, user_id: str) -> None:
        await store.record(user_id, [event("e1", user_id), event("e2", user_id)])
        await store.put_profile(user_id, {"age": 3.0})
        state = await store.read(user_id)
        assert state is not None
        assert [e.user_id for e in state.events] == [user_id, user_id]
        assert await store.forget(user_id)
        assert await store.read(user_id) is None

    async def test_the_same_event_again_changes_nothing_and_gets_the_same_answer(self, store: Store) -> None:
        [first] = await store.record("alice", [event(**FULL)])
        before = await store.read("alice")
        assert await store.record("alice", [event(**FULL)]) == [Outcome("duplicate", first.event)]
        assert await store.read("alice") == before

    async def test_a_repeat_within_the_batch_is_a_duplicate(self, store: Store) -> None:
        assert kinds(await store.record("alice", [event(), event(like=True), event()])) == [
            "accepted",
            "merged",
            "duplicate",
        ]

    async def test_more_feedback_merges(self, store: Store) -> None:
        await store.record("alice", [event(watch_time_s=10.0, duration_s=None, like=True, tab="1")])
        [outcome] = await store.record("alice", [event(watch_time_s=9.0, follow=True, tag="39")])
        merged = event(watch_time_s=10.0, like=True, follow=True, tab="1", tag="39")
        assert outcome == Outcome("merged", merged)
        assert await events_of(store) == [merged]

    @pytest.mark.parametrize("context", [{}, {"tab": "1"}])
    async def test_of_a_signal_the_most_that_any_version_says_is_kept(
        self, store: Store, context: dict[str, Any]
    ) -> None:
        first: dict[str, bool | float] = {"stars": 2.0, "report": False}
        versions = [first, {"Z": 1.0, "stars": 10.0, "favorite": True}, {"stars": 9.5, "favorite": 3.0}, {}]
        kept = {"stars": 10.0, "favorite": True, "Z": 1.0}
        for name, order in (("e1", versions), ("e2", versions[::-1])):
            for signals in order:
                [outcome] = await store.record("alice", [event(name, signals=signals, **context)])
            assert outcome.event == event(name, signals=kept, **context)
            assert kinds(await store.record("alice", [event(name, signals=kept)])) == ["duplicate"]
        assert [e.signals for e in await events_of(store)] == [kept, kept]

    async def test_an_event_that_left_the_sequence_is_still_known(self, store: Store) -> None:
        await store.record(
            "alice", [event("old", **FULL), *(event(f"e{i}", after_ms=i) for i in range(1, 4))]
        )
        assert await ids_of(store) == ["e1", "e2", "e3"]
        [again] = await store.record("alice", [event("old", **FULL)])
        assert again == Outcome("duplicate", event("old", **FULL))
        [more] = await store.record("alice", [event("old", watch_time_s=99.0, **FULL)])
        assert more == Outcome("merged", event("old", watch_time_s=99.0, **FULL))
        [less] = await store.record("alice", [event("old", watch_time_s=1.0)])
        assert less == Outcome("duplicate", event("old", watch_time_s=99.0, **FULL))
        assert await ids_of(store) == ["e1", "e2", "e3"]

    async def test_an_id_that_occurs_within_other_records_is_still_new(self, store: Store) -> None:
        looks_alike = [
            event("a", video_id="b", tag="b"),
            event("ab", after_ms=1, video_id="b", author_id="b"),
        ]
        await store.record("alice", [*looks_alike, *(event(f"e{i}", after_ms=9 + i) for i in range(3))])
        assert kinds(
            await store.record("alice", [event("b", after_ms=2), event("ab", after_ms=1, video_id="b")])
        ) == [
            "accepted",
            "duplicate",
        ]

    async def test_an_event_known_to_be_newer_than_thought_returns(self, store: Store) -> None:
        await store.record("alice", [event(f"e{i}", after_ms=i) for i in range(4)])
        assert await ids_of(store) == ["e1", "e2", "e3"]
        assert kinds(await store.record("alice", [event("e0", after_ms=9)])) == ["merged"]
        assert await ids_of(store) == ["e2", "e3", "e0"]
        assert (
            kinds(await store.record("alice", [event("e1", after_ms=1), event("e0", after_ms=9)]))
            == ["duplicate"] * 2
        )

    async def test_another_video_under_the_same_id_is_a_conflict(self, store: Store) -> None:
        await store.record("alice", [event(f"e{i}", after_ms=i) for i in range(4)])
        before = await store.read("alice")
        for name in ("e0", "e3"):  # one that left the sequence, one that is in it
            wrong = event(name, video_id="other", like=True)
            [outcome] = await store.record("alice", [wrong])
            assert (outcome.kind, outcome.event) == ("conflict", wrong)
            assert f"v-{name}" in outcome.detail
            assert "other" in outcome.detail
        assert await store.read("alice") == before

    async def test_another_user_under_the_same_id_is_a_conflict(self, store: Store) -> None:
        await store.record("alice", [event("e1")])
        stolen = event("e1", "bob")
        outcomes = await store.record("bob", [stolen, event("e2", "bob"), stolen])
        assert kinds(outcomes) == ["conflict", "accepted", "conflict"]
        assert outcomes[0].event == stolen
        assert "alice" not in outcomes[0].detail
        assert await ids_of(store, "bob") == ["e2"]

    async def test_a_user_with_nothing_but_conflicts_stays_unknown(self, store: Store) -> None:
        await store.record("alice", [event("e1")])
        await store.record("bob", [event("e1", "bob")])
        assert await store.read("bob") is None

    async def test_a_body_of_many_users_is_written_as_if_one_user_came_after_the_other(
        self, store: Store
    ) -> None:
        await store.record("carol", [event("c0", "carol")])
        body = [
            event("e1", "bob", after_ms=1),
            event("e1", "alice", after_ms=2),  # bob has had it
            event("e2", "alice"),
            event("c0", "bob"),  # carol has it
            event("e3", "bob"),
            event("e2", "alice", like=True),
            event("e3", "alice"),  # bob comes first, although his stands later than alice's first
            event("e2", "alice", video_id="other"),
            event("e1", "bob", after_ms=1),
        ]
        outcomes = await store.record_many(body)
        assert [(o.kind, o.event.user_id) for o in outcomes] == [
            ("accepted", "bob"),
            ("conflict", "alice"),
            ("accepted", "alice"),
            ("conflict", "bob"),
            ("accepted", "bob"),
            ("merged", "alice"),
            ("conflict", "alice"),
            ("conflict", "alice"),
            ("duplicate", "bob"),
        ]
        assert "another user" in outcomes[1].detail
        assert "v-e2" in outcomes[7].detail
        assert await ids_of(store, "bob") == ["e3", "e1"]
        assert await events_of(store, "alice") == [event("e2", "alice", like=True)]
        assert kinds(await store.record_many(body)) == [
            "duplicate",
            "conflict",
            "duplicate",
            "conflict",
            "duplicate",
            "duplicate",
            "conflict",
            "conflict",
            "duplicate",
        ]

    async def test_a_body_of_more_users_than_a_step_takes_is_written_whole(self, store: Store) -> None:
        body = [
            event(f"{user}-{i}", user, after_ms=i) for i in range(3) for user in (f"u{n}" for n in range(230))
        ]
        assert set(kinds(await store.record_many(body))) == {"accepted"}
        outcomes = await store.record_many(body[::-1])
        assert [(o.kind, o.event) for o in outcomes] == [("duplicate", e) for e in body[::-1]]
        for user in ("u0", "u99", "u100", "u229"):
            assert await ids_of(store, user) == [f"{user}-{i}" for i in range(3)]

    async def test_an_empty_body_changes_nothing(self, store: Store) -> None:
        assert await store.record_many([]) == []

    async def test_any_order_and_repetition_leaves_the_same_sequence(self, store: Store) -> None:
        versions = [
            event("e1", after_ms=1, watch_time_s=5.0, tab="1"),
            event("e1", after_ms=4, watch_time_s=3.0, like=True, tab="2"),
            event("e2", after_ms=2, duration_s=None),
            event("e3", after_ms=3),
            event("e4", after_ms=3, tag="x"),
        ]
        states = []
        for number, order in enumerate(itertools.permutations(versions)):
            if number % 7:
                continue
            user = f"u{number}"
            mine = [
                event(
                    f"{v.event_id}-{number}",
                    user,
                    v.timestamp_ms - event().timestamp_ms,
                    video_id=v.video_id,
                    watch_time_s=v.watch_time_s,
                    duration_s=v.duration_s,
                    like=v.like,
                    tab=v.tab,
                    tag=v.tag,
                )
                for v in (*order, *order[:2])
            ]
            await store.record(user, mine[:3])
            await store.record(user, mine[3:])
            states.append([(e.video_id, e.timestamp_ms, e.like, e.tab) for e in await events_of(store, user)])
        assert states == [states[0]] * len(states)
        assert [s[0] for s in states[0]] == ["v-e3", "v-e4", "v-e1"]

    async def test_an_event_is_known_for_the_window(self, store: Store, clock: Clock) -> None:
        await store.record("alice", [event(f"e{i}", after_ms=i) for i in range(4)])
        clock.forward(0.9 * WINDOW_S)  # the server's clock goes on meanwhile
        assert kinds(await store.record("alice", [event("e0"), event("e1", after_ms=1)])) == ["duplicate"] * 2
        assert kinds(await store.record("bob", [event("e0", "bob")])) == ["conflict"]

    async def test_after_the_window_its_id_is_free(self, store: Store, clock: Clock) -> None:
        await store.record("alice", [event(f"e{i}", after_ms=i) for i in range(4)])
        clock.forward(2 * WINDOW_S)
        assert kinds(await store.record("bob", [event("e0", "bob")])) == ["accepted"]

    async def test_what_is_in_the_sequence_is_known_for_as_long_as_it_is(
        self, store: Store, clock: Clock
    ) -> None:
        await store.record("alice", [event()])
        clock.forward(9 * WINDOW_S)
        assert kinds(await store.record("alice", [event()])) == ["duplicate"]

    async def test_a_profile_comes_with_the_sequence(self, store: Store) -> None:
        await store.put_profile("alice", {"age": 31.5, "city": "Köln"})
        state = await store.read("alice")
        assert state is not None
        assert (state.events, state.profile) == ([], {"age": 31.5, "city": "Köln"})
        await store.record("alice", [event()])
        await store.put_profile("alice", {"city": "Bonn"})
        state = await store.read("alice")
        assert state is not None
        assert (state.events, state.profile) == ([event()], {"city": "Bonn"})

    async def test_a_history_comes_with_the_sequence_and_leaves_it_and_the_profile_as_they_are(
        self, store: Store
    ) -> None:
        entries = [HistoryEntry(video_id="007", long_view=True), HistoryEntry(video_id="7", like=True)]
        await store.put_history("alice", entries)
        state = await store.read("alice")
        assert state is not None
        assert (state.events, state.profile, state.history) == ([], {}, entries)
        await store.record("alice", [event()])
        await store.put_profile("alice", {"age": 3.0})
        await store.put_history("alice", entries[1:])
        state = await store.read("alice")
        assert state is not None
        assert (state.events, state.profile, state.history) == ([event()], {"age": 3.0}, entries[1:])
        served = await store.history("alice")
        assert served is not None
        assert served.imported.rows() == entries[1:]

    async def test_of_a_history_the_newest_entries_are_kept(self, store: Store) -> None:
        entries = [HistoryEntry(video_id=f"v{i}", long_view=i % 2 == 0) for i in range(HISTORY_LENGTH + 3)]
        await store.put_history("alice", entries)
        state = await store.read("alice")
        assert state is not None
        assert state.history == entries[3:]

    async def test_of_an_empty_history_nothing_is_left(self, store: Store) -> None:
        await store.put_history("alice", [HistoryEntry(video_id="v")])
        await store.put_history("alice", [])
        assert await store.read("alice") is None

    async def test_a_forgotten_user_is_new(self, store: Store) -> None:
        batch = [event(f"e{i}", after_ms=i) for i in range(6)]
        await store.record("alice", batch)
        await store.put_profile("alice", {"age": 3.0})
        await store.put_history("alice", [HistoryEntry(video_id="v")])
        assert await store.forget("alice") is True
        assert await store.read("alice") is None
        assert await store.forget("alice") is False
        assert kinds(await store.record("alice", batch[1:])) == ["accepted"] * 5
        assert kinds(await store.record("bob", [event("e0", "bob")])) == ["accepted"]

    async def test_forgetting_one_user_leaves_the_other(self, store: Store) -> None:
        await store.record("alice", [event("e1")])
        await store.record("bob", [event("e2", "bob")])
        await store.forget("alice")
        assert await ids_of(store, "bob") == ["e2"]
        assert kinds(await store.record("alice", [event("e2")])) == ["conflict"]

    async def test_the_catalogue_can_be_followed(self, store: Store) -> None:
        one = Video(video_id="v1", duration_s=24.1, author_id="7", tag="39")
        two, changed = Video(video_id="v2"), Video(video_id="v1", duration_s=25.0)
        cursor, videos = await store.videos_since("")
        assert videos == []
        await store.put_videos([one, two])
        cursor, videos = await store.videos_since(cursor)
        assert videos == [one, two]
        assert await store.videos_since(cursor) == (cursor, [])
        await store.put_videos([changed, two])
        cursor, videos = await store.videos_since(cursor)
        assert videos == [changed]
        assert sorted((await store.videos_since(""))[1], key=lambda v: v.video_id) == [changed, two]

    async def test_the_last_of_two_entries_for_a_video_holds(self, store: Store) -> None:
        await store.put_videos([Video(video_id="v1", tag="a"), Video(video_id="v1", tag="b")])
        assert (await store.videos_since(""))[1] == [Video(video_id="v1", tag="b")]
        await store.put_videos([])
