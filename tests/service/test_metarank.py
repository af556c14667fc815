"""Metarank's events and rankings over real HTTP: they end where ours do, and answer as ours do."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import StoreUnavailable
from tests.service import tiny_bundle
from tests.service.bodies import UNREADABLE
from tests.service.exchanges import is_problem
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, Service, served


def fields(**values: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def interaction(
    user: str, /, kind: str = "watch", values: dict[str, Any] | None = None, **members: Any
) -> Any:
    """A watch of half of a 24 s video, or something else done with it, within ranking `r1`."""
    if values is None:
        values = {"watch_time_s": 12.0, "duration_s": 24.0} if kind == "watch" else {"duration_s": 24.0}
    whole = {
        "event": "interaction",
        "id": f"{kind}-{user}",
        "ranking": f"r1-{user}",
        "timestamp": str(NOW_MS),
        "user": user,
        "type": kind,
        "item": "v1",
        "fields": fields(**values),
    }
    return {name: value for name, value in (whole | members).items() if value is not None}


def send(client: httpx2.Client, *events: Any) -> Any:
    """The reply to events that are good, without its time."""
    reply = client.post("/feedback", json=list(events))
    assert reply.status_code == 200, reply.text
    took = reply.json().pop("tookMillis")
    assert isinstance(took, int)
    return {name: value for name, value in reply.json().items() if name != "tookMillis"}


def sequence(client: httpx2.Client, user: str) -> Any:
    reply = client.get(f"/users/{user}/sequence")
    return reply.json()["events"] if reply.status_code == 200 else []


def outcome(accepted: int, updated: int, ignored: int = 0) -> dict[str, Any]:
    return {"status": "ok", "accepted": accepted, "updated": updated, "ignored": ignored, "rejected": []}


def test_a_watch_and_a_later_like_of_one_ranking_are_one_exposure(client: httpx2.Client, user: str) -> None:
    assert send(client, interaction(user)) == outcome(1, 1)
    assert send(client, interaction(user, "like")) == outcome(1, 1)
    (exposure,) = sequence(client, user)
    assert (exposure["watch_time_s"], exposure["duration_s"], exposure["like"]) == (12.0, 24.0, True)
    assert (exposure["video_id"], exposure["timestamp_ms"]) == ("v1", NOW_MS)
    assert send(client, interaction(user), interaction(user, "like")) == outcome(2, 0)
    assert sequence(client, user) == [exposure]


@pytest.mark.parametrize("members", [{"ranking": "r2"}, {"item": "v2"}])
def test_another_ranking_or_item_is_another_exposure(
    client: httpx2.Client, user: str, members: dict[str, Any]
) -> None:
    send(client, interaction(user), interaction(user, **members))
    assert len(sequence(client, user)) == 2


def test_without_a_ranking_the_session_makes_the_exposure(client: httpx2.Client, user: str) -> None:
    alone: dict[str, Any] = {"ranking": None, "session": f"s-{user}"}
    send(client, interaction(user, **alone), interaction(user, "share", **alone))
    send(client, interaction(user, ranking=None), interaction(user, "follow", ranking=None))
    held = sequence(client, user)
    assert len(held) == 3
    assert next(e for e in held if e.get("forward"))["watch_time_s"] == 12.0


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("like", "like"), ("Like", "like"), ("subscribe", "follow"), ("comment", "comment"),
        ("share", "forward"), ("dislike", "hate"), ("profile", "profile_enter"),
    ],
)  # fmt: skip
def test_a_type_sets_its_flag(client: httpx2.Client, user: str, kind: str, flag: str) -> None:
    send(client, interaction(user, kind))
    (exposure,) = sequence(client, user)
    assert exposure[flag] is True
    assert exposure["watch_time_s"] == 0.0


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({"watch_time": 3, "duration": 8}, (3.0, 8.0)),
        ({"watch_ms": 2500, "duration_ms": 8000.0}, (2.5, 8.0)),
        ({"watch_time_ms": 500, "duration_s": 8, "unheard_of": {"a": [1]}}, (0.5, 8.0)),
    ],
)
def test_times_are_read_in_seconds_or_milliseconds(
    client: httpx2.Client, user: str, values: dict[str, Any], seconds: tuple[float, float]
) -> None:
    send(client, interaction(user, "finish", values))
    (exposure,) = sequence(client, user)
    assert (exposure["watch_time_s"], exposure["duration_s"]) == seconds


def test_a_bare_click_is_no_exposure(client: httpx2.Client, user: str) -> None:
    assert send(client, interaction(user, "click")) == outcome(1, 0, ignored=1)
    assert sequence(client, user) == []


@pytest.mark.parametrize(
    "moment",
    [
        NOW_MS,
        float(NOW_MS),
        str(NOW_MS),
        datetime.fromtimestamp(NOW_MS / 1000, UTC).isoformat(),
        datetime.fromtimestamp(NOW_MS / 1000, UTC).isoformat().replace("+00:00", "Z"),
        datetime.fromtimestamp(NOW_MS / 1000, UTC).replace(tzinfo=None).isoformat(),
    ],
)
def test_a_timestamp_is_read_in_every_notation(client: httpx2.Client, user: str, moment: Any) -> None:
    send(client, interaction(user, timestamp=moment))
    assert sequence(client, user)[0]["timestamp_ms"] == NOW_MS


@pytest.mark.parametrize("name", ["item", "metadata"])  # its first name, which Metarank still reads
def test_an_item_event_adds_to_the_catalogue(client: httpx2.Client, user: str, name: str) -> None:
    item = {"event": name, "id": "i", "timestamp": NOW_MS, "item": f"v-{user}"}
    assert send(client, item | {"fields": fields(duration_s=30, title="cats")}) == outcome(1, 1)
    assert send(client, item | {"fields": fields(category=[39.0, 40], author="a7")}) == outcome(1, 1)
    assert send(client, item | {"fields": fields(title="dogs")}) == outcome(1, 0, ignored=1)
    send(client, interaction(user, values={"watch_time_s": 5}, item=f"v-{user}"))
    (exposure,) = sequence(client, user)
    assert (exposure["duration_s"], exposure["tag"], exposure["author_id"]) == (30.0, "39", "a7")


def test_an_item_of_the_same_body_may_come_after_its_interaction(client: httpx2.Client, user: str) -> None:
    item = {"event": "item", "timestamp": NOW_MS, "item": f"v-{user}", "fields": fields(duration_s=30)}
    done = send(client, interaction(user, values={"watch_time_s": 5}, item=f"v-{user}"), item)
    assert done == outcome(2, 2)


def test_a_user_event_adds_what_the_bundle_declares_to_the_profile(client: httpx2.Client, user: str) -> None:
    known = {"event": "user", "id": "x", "timestamp": NOW_MS, "user": user}
    assert send(client, known | {"fields": fields(age=33, shoe_size=44)}) == outcome(1, 1)
    assert send(client, known | {"fields": fields(city=2)}) == outcome(1, 1)
    assert send(client, known | {"fields": fields(shoe_size=45)}) == outcome(1, 0, ignored=1)
    profile = client.get(f"/users/{user}/sequence").json()["profile"]
    assert profile == {"age": 33.0, "city": 2.0}


def test_a_ranking_tells_whose_the_interactions_of_its_body_are(client: httpx2.Client, user: str) -> None:
    ranking = {
        "event": "ranking", "id": f"r1-{user}", "timestamp": NOW_MS, "user": user,
        "items": [{"id": "v1", "relevancy": 2.0}],
    }  # fmt: skip
    assert send(client, interaction(user, user=None), ranking) == outcome(2, 1, ignored=1)
    assert len(sequence(client, user)) == 1


def test_a_visitor_without_a_user_is_the_session(client: httpx2.Client, user: str) -> None:
    send(client, interaction(user, user=None, session=user))
    assert len(sequence(client, user)) == 1


def test_each_event_stands_alone(client: httpx2.Client, user: str) -> None:
    bad = [
        interaction(user, values={"watch_time_s": -1, "duration_s": 5}),
        interaction(user, values={"watch_time_s": "long"}),
        interaction(user, user=None),
        interaction(user, timestamp="yesterday"),
        interaction(user, timestamp=10**18),
        interaction(user, item="unknown", values={"watch_time_s": 3}),
        interaction(user, item=""),
        {"event": "flush"},
        {"event": "user", "timestamp": 1, "user": user, "fields": fields(age="old")},
        [],
        7,
    ]
    reply = client.post("/feedback", json=[bad[0], interaction(user), *bad[1:]])
    assert reply.status_code == 200
    done = reply.json()
    assert (done["status"], done["accepted"], len(done["rejected"])) == ("partial", 1, len(bad))
    codes = {r["index"]: (r["code"], r.get("loc", "")) for r in done["rejected"]}
    assert codes[0] == ("invalid", "watch_time_s")
    assert codes[3] == ("invalid", "user")
    assert codes[6] == ("duration_unknown", "duration_s")
    assert codes[10] == ("malformed", "")
    assert is_problem(client.post("/feedback", json=bad), 422)


@pytest.mark.parametrize("between", ["", "\n", "\r\n", " , "])
def test_a_stream_of_events_needs_no_array(client: httpx2.Client, user: str, between: str) -> None:
    text = between.join(json.dumps(interaction(user, item=f"v{i}")) for i in range(3))
    reply = client.post("/feedback", content=text, headers={"content-type": "application/x-ndjson"})
    assert reply.json()["accepted"] == 3
    assert len(sequence(client, user)) == 3


def test_the_content_type_matters_only_from_a_page(client: httpx2.Client, user: str) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    page = {"origin": "http://evil.example"}
    body = json.dumps(interaction(user))
    assert client.post("/feedback", content=body, headers=form).status_code == 200
    assert client.post("/feedback", content=body).status_code == 200
    assert is_problem(client.post("/feedback", content=body, headers=form | page), 415)
    assert is_problem(client.post("/feedback", content=body, headers=page), 415)
    assert is_problem(
        client.post("/feedback", content=body, headers=form | {"content-encoding": "gzip"}), 415
    )
    json_page = {"content-type": "application/json"} | page
    assert client.post("/feedback", content=body, headers=json_page).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b" , \n", 400),
        (b"[" * 100_000, 400),
        (b"{} nope", 400),
        (b"\xff", 400),
        (b"[]" * 200_001, 422),
    ],
)
def test_a_body_that_makes_no_sense_is_told_so(client: httpx2.Client, body: bytes, status: int) -> None:
    assert is_problem(client.post("/feedback", content=body), status)


def test_with_the_store_away_nothing_is_said_to_be_done(bundles: Path, tmp_path: Path) -> None:
    class Away(MemoryStore):
        async def record(self, user_id: str, events: Any) -> Any:
            raise StoreUnavailable("it is away")

        async def put_profile(self, user_id: str, profile: Any) -> None:
            raise StoreUnavailable("it is away")

    known = {"event": "user", "timestamp": NOW_MS, "user": "u", "fields": fields(age=33)}
    with served(bundles, Away(), tmp_path) as client:
        for event in (interaction("u"), known):
            reply = client.post("/feedback", json=event)
            assert is_problem(reply, 503)
            assert reply.headers["retry-after"]


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("kind", ["interaction", "user"])
def test_an_event_whose_number_is_none_is_rejected_alone(
    client: httpx2.Client, user: str, kind: str, value: bytes
) -> None:
    name = "watch_time_s" if kind == "interaction" else "age"
    bad = interaction(user, "x", event=kind, values={name: "BAD"})
    body = json.dumps([interaction(user), bad]).encode().replace(b'"BAD"', value)
    reply = client.post("/feedback", content=body)
    assert [(r["index"], r["loc"]) for r in reply.json()["rejected"]] == [(1, f"fields.{name}")]
    assert len(sequence(client, user)) == 1


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(["watch_time_s", "duration_ms", "tag", "tab", "like", "age", "city"]) | st.text(
    max_size=4
)
FIELDS = st.lists(
    st.fixed_dictionaries({"name": NAMES, "value": ANY | st.lists(ANY, max_size=2)}), max_size=3
)
EVENTS = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["item", "user", "ranking", "interaction"]) | ANY,
        "timestamp": st.just(NOW_MS) | ANY | st.text(alphabet="0123456789-:TZ+.", max_size=25),
    },
    optional={
        "item": st.just("v1") | ANY,
        "user": st.just("fuzz") | ANY,
        "type": st.just("like") | ANY,
        "items": st.lists(st.fixed_dictionaries({"id": ANY}, optional={"fields": FIELDS}), max_size=2) | ANY,
        **dict.fromkeys(("id", "session", "ranking"), ANY),
        "fields": FIELDS | ANY,
    },
)
BODIES = st.binary(max_size=80) | (st.lists(EVENTS, max_size=3) | EVENTS | ANY).map(
    lambda value: json.dumps(value).encode()
)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/feedback", "/rank/default?explain=1"])
def test_no_bytes_make_a_500(service: Service, path: str) -> None:
    with service.client() as client:

        @settings(max_examples=200, deadline=None, derandomize=True)
        @given(body=BODIES)
        def no_500(body: bytes) -> None:
            reply = client.post(path, content=body)
            assert reply.status_code == 200 or is_problem(reply, reply.status_code)
            assert reply.status_code in (200, 400, 422)

        no_500()


# --- POST /rank/{model}


def rank(client: httpx2.Client, model: str = "default", query: str = "", **members: Any) -> httpx2.Response:
    body = {
        "id": "81f4",
        "timestamp": str(NOW_MS),
        "items": [{"id": "v1", "fields": fields(duration_s=20)}, {"id": "v2", "fields": fields(author="a9")}],
    }
    return client.post(f"/rank/{model}{query}", json=body | members)


def test_a_slate_is_that_of_rerank_in_other_words(client: httpx2.Client, user: str) -> None:
    send(client, interaction(user))
    got = rank(client, user=user, fields=fields(tab="1"))
    ours = client.post(
        "/rerank",
        json={
            "user_id": user,
            "timestamp_ms": NOW_MS,
            "tab": "1",
            "candidates": [{"video_id": "v1", "duration_s": 20}, {"video_id": "v2", "author_id": "a9"}],
        },
    ).json()
    assert set(got.json()) == {"took", "items"}
    assert got.json()["items"] == [{"item": i["video_id"], "score": i["score"]} for i in ours["items"]]


def test_explain_lists_what_the_score_is_made_of(client: httpx2.Client, user: str) -> None:
    (best, _) = rank(client, query="?explain=true", user=user).json()["items"]
    values = {feature["name"]: feature["value"] for feature in best["features"]}
    assert values["watch_ratio"] == pytest.approx(tiny_bundle.watch_ratio(), abs=1e-6)
    assert {"watch_time_s", "watch_time", "interest", "watch_time_s_p50", "part_interest"} <= set(values)


def test_an_objective_is_a_model_that_ranks_by_it_alone(client: httpx2.Client) -> None:
    assert [i["item"] for i in rank(client, "interest").json()["items"]] == ["v2", "v1"]
    refused = rank(client, "xgboost")
    assert is_problem(refused, 404)
    assert "default, watch_time, interest" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("members", "loc"),
    [
        ({"items": []}, "items"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"timestamp": 1_651_330_969}, "timestamp_ms"),
        ({"items": [{"id": "v1"}, {"id": "v2", "fields": fields(duration_s=-1)}]}, "items[1].duration_s"),
        ({"items": [{"id": ""}]}, "items[0].id"),
        ({"fields": fields(tab=[["x"]])}, "fields.tab"),
        ({"fields": fields(tab="\x00")}, "fields.tab"),
        ({"user": "\x00"}, "user"),
    ],
)
def test_a_bad_member_of_a_ranking_is_named(client: httpx2.Client, members: dict[str, Any], loc: str) -> None:
    reply = rank(client, **members)
    assert is_problem(reply, 422)
    assert reply.json()["errors"][0]["loc"] == loc


def test_feedback_and_rank_ask_for_their_rights(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, api_keys="a:label,b:rerank") as client:
        for key, feedback, slate in (("a", 200, 403), ("b", 403, 200), ("c", 401, 401)):
            client.headers["authorization"] = f"Bearer {key}"
            assert client.post("/feedback", json=interaction("u")).status_code == feedback
            assert rank(client).status_code == slate
        client.headers.pop("authorization")
        assert client.get("/health").json()["status"] == "ready"
