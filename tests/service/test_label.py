"""POST /label over real HTTP, line by line of what it promises."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.errors import StoreUnavailable
from models.schema import FeedbackEvent
from service.http.request import NDJSON
from service.state import Outcome
from tests.service import tiny_bundle
from tests.service.bodies import UNREADABLE
from tests.service.exchanges import JSON
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, served


def label(client: httpx2.Client, body: object, **params: str) -> httpx2.Response:
    return client.post("/label", json=body, params=params)


def sequence(client: httpx2.Client, user: str) -> list[dict[str, Any]]:
    reply = client.get(f"/users/{user}/sequence")
    return list(reply.json()["events"]) if reply.status_code == 200 else []


def test_the_label_is_the_bundles_answer_to_the_event(client: httpx2.Client, user: str) -> None:
    reply = label(client, {"events": [event(f"{user}-1", user)]}).json()
    assert reply.pop("took_ms") >= 0
    assert reply == {
        "status": "ok",
        "accepted": 1,
        "duplicates": 0,
        "merged": 0,
        "rejected": [],
        "labels": [
            {
                "event_id": f"{user}-1",
                "user_id": user,
                "video_id": "v1",
                "label": 0.5,
                "labels": {"labelcraft": 0.5},
                "percentile": 0.25,
                "percentiles": {"labelcraft": 0.25},
                "duplicate": False,
            }
        ],
        "model_version": tiny_bundle.FIRST,
    }


def test_each_label_has_its_own_percentile_whatever_the_order_they_are_named_in(
    client: httpx2.Client, user: str
) -> None:
    body = [event(f"{user}-{i}", user, watch_time_s=6.0 * i) for i in range(3)]
    for found in label(client, body, labels="pcr,labelcraft").json()["labels"]:
        assert found["percentile"] == found["percentiles"]["pcr"]
        assert list(found["percentiles"]) == ["pcr", "labelcraft"]
        assert found["percentiles"] == {name: value**2 for name, value in found["labels"].items()}


def test_a_bundle_without_percentiles_answers_as_before_and_says_none(tmp_path: Path) -> None:
    former = tiny_bundle.write(tmp_path / "bundle", percentiles=False)
    with served(former, MemoryStore(), tmp_path / "data") as client:
        names = {"labels": "pcr,labelcraft"}
        (found,) = client.post("/label", json=event(), params=names).json()["labels"]
        lines = client.post("/label", content=json.dumps(event()), headers={"content-type": NDJSON}).text
    assert list(found) == ["event_id", "user_id", "video_id", "label", "labels", "duplicate"]
    assert found["labels"] == {"pcr": 0.25, "labelcraft": 0.5}
    assert "percentile" not in lines


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("member", ["event_id", "timestamp_ms", "watch_time_s", "like", "unknown"])
def test_an_event_with_a_value_that_nothing_can_hold_is_rejected_alone(
    client: httpx2.Client, user: str, member: str, value: bytes
) -> None:
    bad = json.dumps(event(f"{user}-bad", user) | {member: "BAD"}).encode().replace(b'"BAD"', value)
    good = json.dumps(event(f"{user}-good", user)).encode()
    reply = client.post("/label", content=b"[%s,%s]" % (bad, good), headers=JSON).json()
    assert (reply["accepted"], [(r["index"], r["code"]) for r in reply["rejected"]]) == (1, [(0, "invalid")])
    assert not re.search(r"sys\.|recursion|4300|codec", reply["rejected"][0]["detail"])


@pytest.mark.parametrize("shape", [lambda e: e, lambda e: [e], lambda e: {"events": [e]}])
def test_one_event_an_array_and_an_envelope_mean_the_same(
    client: httpx2.Client, user: str, shape: Callable[[object], object]
) -> None:
    reply = label(client, shape(event(f"{user}-1", user)))
    assert reply.status_code == 200
    assert [e["event_id"] for e in sequence(client, user)] == [f"{user}-1"]


def test_an_empty_body_of_events_is_an_empty_answer(client: httpx2.Client) -> None:
    reply = label(client, {"events": []})
    assert (reply.status_code, reply.json()["accepted"], reply.json()["labels"]) == (200, 0, [])


def test_labels_are_those_asked_for_and_the_first_is_the_label(client: httpx2.Client, user: str) -> None:
    (got,) = label(client, event(f"{user}-1", user), labels="pcr,labelcraft").json()["labels"]
    assert got["labels"] == {"pcr": 0.25, "labelcraft": 0.5}
    assert got["label"] == 0.25


@pytest.mark.parametrize("labels", ["d2q", "", "labelcraft,", "pcr,nope"])
def test_a_label_the_bundle_does_not_serve_is_refused(client: httpx2.Client, user: str, labels: str) -> None:
    reply = label(client, event(f"{user}-1", user), labels=labels)
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"] == "labels"
    assert sequence(client, user) == []


def test_store_false_labels_and_keeps_nothing(client: httpx2.Client, user: str) -> None:
    reply = label(client, event(f"{user}-1", user), store="false")
    assert reply.json()["labels"][0]["label"] == 0.5
    assert sequence(client, user) == []


@pytest.mark.parametrize(
    ("wrong", "code", "loc"),
    [
        ({"watch_time_s": -1}, "invalid", "watch_time_s"),
        ({"watch_time_s": 1e9}, "invalid", "watch_time_s"),
        ({"duration_s": 0}, "invalid", "duration_s"),
        ({"duration_s": 24000000}, "invalid", "duration_s"),
        ({"timestamp_ms": -1}, "invalid", "timestamp_ms"),
        ({"timestamp_ms": 1.5}, "invalid", "timestamp_ms"),
        ({"like": 1}, "invalid", "like"),
        ({"nope": 1}, "invalid", ""),
        ({"event_id": "x" * 257}, "invalid", "event_id"),
        ({"video_id": "a\x00b"}, "invalid", "video_id"),
        ({"video_id": ""}, "invalid", "video_id"),
        ({"video_id": 10**256}, "invalid", "video_id"),
        ({"duration_s": None, "video_id": "never-heard-of"}, "duration_unknown", "duration_s"),
        ({"timestamp_ms": 1_651_330_969}, "clock_skew", "timestamp_ms"),  # seconds
        ({"timestamp_ms": int(time.time() * 1000) + 10_000_000}, "clock_skew", "timestamp_ms"),
    ],
)
def test_a_bad_event_is_rejected_alone(
    client: httpx2.Client, user: str, wrong: dict[str, Any], code: str, loc: str
) -> None:
    good = event(f"{user}-1", user)
    reply = label(client, [good, event(f"{user}-2", user) | wrong, event(f"{user}-3", user)])
    assert reply.status_code == 200
    assert reply.json()["accepted"] == 2
    (rejected,) = reply.json()["rejected"]
    assert (rejected["index"], rejected["code"], rejected["loc"]) == (1, code, loc)
    assert rejected["detail"]
    assert [e["event_id"] for e in sequence(client, user)] == [f"{user}-1", f"{user}-3"]


@pytest.mark.parametrize("junk", [b"3", b'"e"', b"null", b"[]", b"NaN"])
def test_what_is_no_event_is_malformed_and_rejected_alone(
    client: httpx2.Client, user: str, junk: bytes
) -> None:
    good = json.dumps(event(f"{user}-1", user)).encode()
    reply = client.post(
        "/label", content=b"[" + junk + b"," + good + b"]", headers={"content-type": "application/json"}
    )
    assert reply.json()["accepted"] == 1
    assert [(r["index"], r["code"]) for r in reply.json()["rejected"]] == [(0, "malformed")]


def test_nan_is_a_value_that_breaks_its_rule(client: httpx2.Client, user: str) -> None:
    body = json.dumps([event(f"{user}-1", user, watch_time_s=float("nan")), event(f"{user}-2", user)])
    reply = client.post("/label", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 200
    assert [r["loc"] for r in reply.json()["rejected"]] == ["watch_time_s"]


def test_nothing_accepted_is_a_problem_document_that_names_each_event(
    client: httpx2.Client, user: str
) -> None:
    reply = label(client, {"events": [event(f"{user}-1", user, duration_s=-1), 3]})
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert [e["loc"] for e in problem["errors"]] == ["events[0].duration_s", "events[1]"]
    assert [r["code"] for r in problem["rejected"]] == ["invalid", "malformed"]


def test_more_feedback_on_an_exposure_merges(client: httpx2.Client, user: str) -> None:
    label(client, event(f"{user}-1", user, watch_time_s=6.0, like=True))
    reply = label(client, event(f"{user}-1", user, watch_time_s=18.0, follow=True)).json()
    assert (reply["accepted"], reply["merged"], reply["labels"][0]["label"]) == (0, 1, 0.75)
    (exposure,) = sequence(client, user)
    assert (exposure["watch_time_s"], exposure["like"], exposure["follow"]) == (18.0, True, True)


def test_events_of_many_users_are_labelled_in_the_order_of_the_body(
    client: httpx2.Client, new_id: Callable[[], str]
) -> None:
    users = [new_id() for _ in range(40)]
    events = [event(f"{u}-{i}", u, watch_time_s=i) for i in range(3) for u in users]
    labels = label(client, events).json()["labels"]
    assert [x["event_id"] for x in labels] == [e["event_id"] for e in events]
    assert [x["label"] for x in labels] == pytest.approx([e["watch_time_s"] / 24 for e in events], abs=1e-6)


def test_the_sequence_keeps_the_newest(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(sequence_length=3), tmp_path) as client:
        label(client, [event(f"e{i}", timestamp_ms=NOW_MS + i) for i in (4, 2, 0, 1, 3)])
        assert [e["event_id"] for e in sequence(client, "alice")] == ["e2", "e3", "e4"]


def test_late_events_are_labelled_and_not_stored(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, late_s=60.0) as client:
        now = int(time.time() * 1000)
        old, fresh = event("old", timestamp_ms=now - 120_000), event("new", timestamp_ms=now)
        reply = label(client, [old, fresh]).json()
        assert reply["accepted"] == 1
        assert [x["event_id"] for x in reply["labels"]] == ["old", "new"]
        assert [(r["index"], r["code"]) for r in reply["rejected"]] == [(0, "late")]
        assert label(client, old).status_code == 200
        assert [e["event_id"] for e in sequence(client, "alice")] == ["new"]


def test_a_missing_duration_is_the_catalogues(
    client: httpx2.Client, user: str, new_id: Callable[[], str]
) -> None:
    video = new_id()
    assert client.put("/videos", json=[{"video_id": video, "duration_s": 48.0, "tag": "t1"}]).is_success
    without = event(f"{user}-1", user, video_id=video)
    del without["duration_s"]
    assert label(client, without).json()["labels"][0]["label"] == 0.25
    (exposure,) = sequence(client, user)
    assert (exposure["duration_s"], exposure["tag"]) == (48.0, "t1")


def test_too_many_events_are_refused_whole(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, max_events=3) as client:
        assert label(client, [event(f"e{i}") for i in range(3)]).status_code == 200
        reply = label(client, [event(f"f{i}") for i in range(4)])
        assert reply.status_code == 422
        assert reply.json()["errors"][0]["loc"] == "events"


@pytest.mark.parametrize("body", [{"events": 3}, {"events": [], "x": 1}, 3, "e", None, True])
def test_a_body_of_another_shape_is_refused_whole(client: httpx2.Client, body: object) -> None:
    headers = {"content-type": "application/json"}
    reply = client.post("/label", content=json.dumps(body), headers=headers)
    assert reply.status_code == 422
    assert "rejected" not in reply.json()


class AwayForBob(MemoryStore):
    """A store that has lost the server on which one user lives."""

    async def record(self, user_id: str, events: Any) -> list[Outcome]:
        if user_id == "bob":
            raise StoreUnavailable("The store is away.")
        return await super().record(user_id, events)


@pytest.mark.parametrize("users", [["bob"], ["alice", "bob", "carol"]])
def test_with_the_store_away_nothing_is_acknowledged(bundles: Path, tmp_path: Path, users: list[str]) -> None:
    with served(bundles, AwayForBob(), tmp_path) as client:
        reply = label(client, [event(f"{u}-1", u) for u in users])
        assert reply.status_code == 503
        assert reply.headers["retry-after"]
        assert "labels" not in reply.json()
        assert label(client, [event("c-1", "carol")]).status_code == 200


def test_every_member_of_an_event_comes_back(client: httpx2.Client, user: str) -> None:
    flags = dict.fromkeys(("like", "follow", "comment", "forward", "hate", "profile_enter"), True)
    context = {"session_id": "s", "tab": "1", "device": "d", "author_id": "a", "tag": "t"}
    sent = event(f"{user}-1", user, **flags, **context)
    label(client, sent)
    (exposure,) = sequence(client, user)
    assert exposure == sent
    assert {*sent, "request_id", "position", "signals"} == set(FeedbackEvent.__struct_fields__)
