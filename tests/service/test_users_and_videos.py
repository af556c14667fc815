"""PUT /users, PUT /videos, DELETE /users, GET …/sequence."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.errors import StoreUnavailable
from models.schema import Video
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, eventually, served


def test_the_sequence_shows_all_that_is_held_newest_last(client: httpx2.Client, user: str) -> None:
    events = [event(f"{user}-{i}", user, timestamp_ms=NOW_MS + i) for i in range(3)]
    client.post("/label", json=events[::-1]).raise_for_status()
    client.put("/users", json=[{"user_id": user, "profile": {"age": 30}}]).raise_for_status()
    assert client.get(f"/users/{user}/sequence").json() == {
        "user_id": user,
        "events": events,
        "profile": {"age": 30},
    }


def test_a_user_with_a_profile_only_is_known(client: httpx2.Client, user: str) -> None:
    client.put("/users", json=[{"user_id": user, "profile": {"city": "2"}}]).raise_for_status()
    assert client.get(f"/users/{user}/sequence").json()["events"] == []


def test_a_history_is_shown_beside_the_events_and_what_an_entry_leaves_out_stays(
    client: httpx2.Client, user: str
) -> None:
    history = [{"video_id": "v1", "long_view": True}, {"video_id": "9", "like": True}]
    sent = [history[0] | {"like": False}, {"video_id": 9, "like": True}]
    client.put("/users", json=[{"user_id": user, "history": sent}]).raise_for_status()
    client.put("/users", json=[{"user_id": user, "profile": {"age": 30}}]).raise_for_status()
    shown = {"user_id": user, "events": [], "profile": {"age": 30}, "history": history}
    assert client.get(f"/users/{user}/sequence").json() == shown
    both = [{"user_id": user, "profile": {}, "history": history[1:]}]
    client.put("/users", json=both).raise_for_status()
    shown |= {"profile": {}, "history": history[1:]}
    assert client.get(f"/users/{user}/sequence").json() == shown
    client.put("/users", json=[{"user_id": user, "history": []}]).raise_for_status()
    assert "history" not in client.get(f"/users/{user}/sequence").json()


def test_of_a_history_the_newest_fifty_are_kept(client: httpx2.Client, user: str) -> None:
    history = [{"video_id": f"v{i}"} for i in range(53)]
    client.put("/users", json=[{"user_id": user, "history": history}]).raise_for_status()
    assert client.get(f"/users/{user}/sequence").json()["history"] == history[3:]


@pytest.mark.parametrize(
    ("entry", "loc"),
    [
        ({}, "users[1].profile"),
        ({"history": {}}, "users[1].history"),
        ({"history": [{"video_id": "v"}, {"like": True}]}, "users[1].history[1]"),
        ({"history": [{"video_id": "v"}, {"video_id": ""}]}, "users[1].history[1].video_id"),
        ({"history": [{"video_id": "v"}, {"video_id": "v", "like": 1}]}, "users[1].history[1].like"),
        ({"history": [{"video_id": "v", "watch_time_s": 3.0}]}, "users[1].history[0]"),
    ],
)
def test_a_bad_history_is_named_and_none_is_written(
    client: httpx2.Client, new_id: Callable[[], str], entry: dict[str, Any], loc: str
) -> None:
    good = new_id()
    users = [{"user_id": good, "history": [{"video_id": "v"}]}, {"user_id": new_id(), **entry}]
    reply = client.put("/users", json=users)
    assert reply.status_code == 422
    assert [e["loc"] for e in reply.json()["errors"]] == [loc]
    assert client.get(f"/users/{good}/sequence").status_code == 404


def test_forgetting_removes_sequence_profile_and_idempotency_records(
    client: httpx2.Client, user: str
) -> None:
    client.post("/label", json=event(f"{user}-1", user)).raise_for_status()
    both = {"user_id": user, "profile": {"age": 30}, "history": [{"video_id": "v1"}]}
    client.put("/users", json=[both]).raise_for_status()
    assert client.delete(f"/users/{user}").json() == {"user_id": user, "known": True, "status": "ok"}
    assert client.get(f"/users/{user}/sequence").status_code == 404
    assert client.post("/label", json=event(f"{user}-1", user)).json()["accepted"] == 1


def test_the_path_as_it_was_sent_decides_whether_it_is_a_user_or_a_sequence(
    client: httpx2.Client, user: str
) -> None:
    client.post("/label", json=event(f"{user}-1", f"{user}/sequence")).raise_for_status()
    client.post("/label", json=event(f"{user}-2", user)).raise_for_status()
    for method, path, allowed in (
        ("DELETE", f"/users/{user}/sequence", "GET"),
        ("DELETE", f"/users/{user}/%73equence", "GET"),
        ("GET", f"/users/{user}%2Fsequence", "DELETE"),
    ):
        refused = client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    assert client.delete(f"/users/{user}%2Fsequence").json()["known"] is True
    assert client.delete(f"/%75sers/{user}").json() == {"user_id": user, "known": True, "status": "ok"}


def test_forgotten_users_are_in_the_ledger_known_or_not(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path) as client:
        client.post("/label", json=event("e1", "alice")).raise_for_status()
        assert client.delete("/users/alice").json()["known"] is True
        assert client.delete("/users/b%2Fob").json()["known"] is False
    ledger = tmp_path / "unlearning.ndjson"
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [e["user_id"] for e in entries] == ["alice", "b/ob"]
    assert all(e["forgotten_at_ms"] > NOW_MS for e in entries)
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600


class Away(MemoryStore):
    async def forget(self, user_id: str) -> bool:
        raise StoreUnavailable("The store is away.")

    async def put_videos(self, videos: Any) -> None:
        raise StoreUnavailable("The store is away.")

    async def put_profile(self, user_id: str, profile: Any) -> None:
        raise StoreUnavailable("The store is away.")


def test_with_the_store_away_nothing_is_said_to_be_done(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, Away(), tmp_path) as client:
        assert client.delete("/users/alice").status_code == 503
        assert client.put("/videos", json=[{"video_id": "v"}]).status_code == 503
        assert client.put("/users", json=[{"user_id": "u", "profile": {}}]).status_code == 503
    # They have asked: training leaves them out from now on, whenever the store comes back.
    assert b'"alice"' in (tmp_path / "unlearning.ndjson").read_bytes()


@pytest.mark.parametrize(
    ("profile", "loc"),
    [
        ({"nope": 1}, "users[1].profile.nope"),
        ({"age": "thirty"}, "users[1].profile.age"),
        ({"city": "a\x00"}, "users[1].profile.city"),
        ({"age": True}, "users[1].profile[...]"),
    ],
)
def test_a_bad_profile_is_named_and_none_is_written(
    client: httpx2.Client, new_id: Callable[[], str], profile: dict[str, Any], loc: str
) -> None:
    good, bad = new_id(), new_id()
    users = [{"user_id": good, "profile": {"age": 1}}, {"user_id": bad, "profile": profile}]
    reply = client.put("/users", json=users)
    assert reply.status_code == 422
    assert [e["loc"] for e in reply.json()["errors"]] == [loc]
    assert client.get(f"/users/{good}/sequence").status_code == 404


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_profile_holds_finite_numbers(client: httpx2.Client, user: str, number: str) -> None:
    body = f'[{{"user_id": "{user}", "profile": {{"age": {number}}}}}]'
    reply = client.put("/users", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 422


def test_the_last_profile_of_a_user_in_a_body_is_the_one_kept(client: httpx2.Client, user: str) -> None:
    users = [{"user_id": user, "profile": {"age": i}} for i in range(20)]
    assert client.put("/users", json=users).json()["accepted"] == 20
    assert client.get(f"/users/{user}/sequence").json()["profile"] == {"age": 19}


@pytest.mark.parametrize("entry", [{}, {"video_id": "v", "duration_s": 0}, {"video_id": "v", "x": 1}, 3])
def test_a_bad_video_is_named_and_none_is_written(
    client: httpx2.Client, user: str, new_id: Callable[[], str], entry: object
) -> None:
    video = new_id()
    reply = client.put("/videos", json=[{"video_id": video, "duration_s": 1.0}, entry])
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"].startswith("videos[1]")
    (rejected,) = client.post(
        "/label", json=[event(f"{user}-1", user, video_id=video, duration_s=None)]
    ).json()["rejected"]
    assert rejected["code"] == "duration_unknown"


def test_a_later_entry_of_a_video_replaces_the_earlier(
    client: httpx2.Client, user: str, new_id: Callable[[], str]
) -> None:
    video = new_id()
    for duration_s, want in ((48.0, 0.25), (24.0, 0.5)):
        client.put("/videos", json=[{"video_id": video, "duration_s": duration_s}]).raise_for_status()
        without = event(f"{user}-{duration_s}", user, video_id=video, duration_s=None)
        assert client.post("/label", json=without).json()["labels"][0]["label"] == want


def test_what_another_process_puts_in_the_catalogue_arrives(bundles: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    with served(bundles, store, tmp_path / "a") as first, served(bundles, store, tmp_path / "b") as second:
        entry = Video(video_id="new", duration_s=48.0)
        first.put("/videos", json=[{"video_id": "new", "duration_s": entry.duration_s}]).raise_for_status()

        def labelled() -> bool:
            without = event("e1", video_id="new", duration_s=None)
            return second.post("/label?store=false", json=without).status_code == 200

        assert eventually(labelled)


def test_more_entries_than_the_limit_are_refused(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, max_events=2) as client:
        assert client.put("/videos", json=[{"video_id": f"v{i}"} for i in range(3)]).status_code == 422
        users = [{"user_id": f"u{i}", "profile": {}} for i in range(3)]
        assert client.put("/users", json=users).status_code == 422
