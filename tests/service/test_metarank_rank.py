"""Metarank's rankings over real HTTP: slates come back in its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service import tiny_bundle
from tests.service.exchanges import is_problem
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, served
from tests.service.test_metarank import fields, interaction, told


def rank(client: httpx2.Client, model: str = "default", query: str = "", **members: Any) -> httpx2.Response:
    asked = {
        "id": "81f4",
        "timestamp": str(NOW_MS),
        "items": [{"id": "v1", "fields": fields(duration_s=20)}, {"id": "v2", "fields": fields(author="a9")}],
    }
    return client.post(f"/rank/{model}{query}", json=asked | members)


def test_a_slate_is_that_of_rerank_in_other_words(client: httpx2.Client, user: str) -> None:
    told(client, interaction(user))
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


def test_nobody_has_a_slate_too(client: httpx2.Client) -> None:
    assert len(rank(client).json()["items"]) == 2


def test_health_answers(client: httpx2.Client) -> None:
    assert client.get("/health").json()["status"] == "ready"


def test_feedback_and_rank_ask_for_their_rights(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, api_keys="a:label,b:rerank") as client:
        for key, feedback, slate in (("a", 200, 403), ("b", 403, 200), ("c", 401, 401)):
            client.headers["authorization"] = f"Bearer {key}"
            assert client.post("/feedback", json=interaction("u")).status_code == feedback
            assert rank(client).status_code == slate
        client.headers.pop("authorization")
        assert client.get("/health").status_code == 200
