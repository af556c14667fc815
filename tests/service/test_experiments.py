"""Experiments: users stay in their arm, in every worker and after a restart, and replies name it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from scipy.stats import chisquare

from models.errors import BundleNotFound, Invalid
from models.store import BundleStore
from service.inference.experiments import Arm, ExperimentsFile, LoadedExperiment, NewExperiment, assignment
from tests.service import tiny_bundle
from tests.service.command_line import invoke
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, served

VERSIONS = {"arms": [{"name": "A"}, {"name": "B", "version": tiny_bundle.SECOND}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_bundle.write_root(tmp_path / "bundles", tiny_bundle.FIRST, tiny_bundle.SECOND)
    return tmp_path / "bundles"


@pytest.fixture
def client(folder: Path, tmp_path: Path) -> Iterator[httpx2.Client]:
    with served(folder, MemoryStore(), tmp_path, log_dir=tmp_path / "log") as http:
        yield http


def start(client: httpx2.Client, name: str, share: float = 1.0, **members: Any) -> httpx2.Response:
    return client.post("/v1/experiments", json={"name": name, "share": share} | (members or VERSIONS))


def slate(client: httpx2.Client, user: str, **members: Any) -> dict[str, Any]:
    body = {"user_id": user, "candidates": [{"video_id": "v", "duration_s": 90.0}]} | members
    reply: dict[str, Any] = client.post("/rerank", json=body).raise_for_status().json()
    return reply


def arm(client: httpx2.Client, user: str) -> tuple[Any, Any, str]:
    reply = slate(client, user)
    return reply.get("experiment"), reply.get("arm"), reply["model_version"]


USERS = [f"user-{i}" for i in range(60)]


def test_users_are_answered_by_their_arm_until_it_stops(client: httpx2.Client) -> None:
    before = slate(client, "u")
    assert not {"experiment", "arm"} & before.keys()
    started = start(client, "e1").raise_for_status().json()
    assert (started["name"], started["buckets"]) == ("e1", [[0, 10_000]])
    found = {user: arm(client, user) for user in USERS}
    assert set(found.values()) == {("e1", "A", tiny_bundle.FIRST), ("e1", "B", tiny_bundle.SECOND)}
    assert {user: arm(client, user) for user in USERS} == found
    in_b = next(user for user, (_, name, _) in found.items() if name == "B")
    assert client.post("/label", json=event(user_id=in_b)).json()["model_version"] == tiny_bundle.SECOND
    assert client.post("/v1/experiments/e1:stop").raise_for_status().json()["stopped_ms"]
    assert {arm(client, user) for user in USERS} == {(None, None, tiny_bundle.FIRST)}
    assert [e["name"] for e in client.get("/v1/experiments").json()] == ["e1"]


def test_an_arm_may_have_weights_of_its_own_and_those_of_a_request_come_first(client: httpx2.Client) -> None:
    arms = [{"name": "A"}, {"name": "B", "weights": {"interest": 1.0}}]
    user = "u"
    plain, by_interest = slate(client, user), slate(client, user, weights={"interest": 1.0})
    start(client, "weights", arms=arms).raise_for_status()
    users = {slate(client, user)["arm"]: user for user in USERS}
    scores = {name: slate(client, user)["items"][0]["score"] for name, user in users.items()}
    assert scores == {"A": plain["items"][0]["score"], "B": by_interest["items"][0]["score"]}
    own = slate(client, users["B"], weights={"watch_time": 1.0})
    assert (own["arm"], own["items"][0]["score"]) == ("B", own["items"][0]["objectives"]["watch_time"])


def test_experiments_that_run_together_share_no_user(client: httpx2.Client) -> None:
    for name in ("e1", "e2"):
        start(client, name, 0.4).raise_for_status()
    counts = Counter(arm(client, user)[0] for user in USERS)
    assert set(counts) == {"e1", "e2", None}
    refused = start(client, "e3", 0.3)
    assert refused.status_code == 422
    assert "0.2 of the users are free" in refused.json()["detail"]
    client.post("/v1/experiments/e1:stop").raise_for_status()
    assert start(client, "e3", 0.5).raise_for_status().json()["buckets"] == [[0, 4000], [8000, 9000]]


def test_slates_are_logged_and_counted_by_arm(client: httpx2.Client, tmp_path: Path) -> None:
    start(client, "e1").raise_for_status()
    replies = {user: slate(client, user)["arm"] for user in USERS[:5]}

    def logged() -> dict[str, str]:
        lines = [x for path in (tmp_path / "log").glob("slates-*") for x in path.read_bytes().splitlines()]
        slates = map(json.loads, lines)
        return {line["user_id"]: line["arm"] for line in slates if line["experiment"] == "e1"}

    assert eventually(lambda: logged() == replies)
    metrics = client.get("/metrics").text
    for name, count in Counter(replies.values()).items():
        assert f'reelrank_experiment_slates_total{{arm="{name}",experiment="e1"}} {count}.0' in metrics


@pytest.mark.parametrize(
    ("members", "status", "message"),
    [
        ({"arms": [{"name": "A"}]}, 422, "two or more"),
        ({"arms": [{"name": "A"}, {"name": "A"}]}, 422, "different names"),
        ({"arms": [{"name": "A"}, {"name": "B", "version": "20200101-00000000"}]}, 404, "no version"),
        ({"arms": [{"name": "A"}, {"name": "B", "weights": {"x": 1}}]}, 422, "'x'"),
        ({"arms": [{"name": "A"}, {"name": "B", "weights": {"interest": 0}}]}, 422, "all 0"),
        ({"arms": VERSIONS["arms"], "share": 0}, 422, "found 0"),
        ({"arms": VERSIONS["arms"], "name": "a b"}, 422, "letters"),
    ],
)
def test_an_experiment_that_cannot_run_is_refused_and_changes_nothing(
    client: httpx2.Client, folder: Path, members: dict[str, Any], status: int, message: str
) -> None:
    reply = client.post("/v1/experiments", json={"name": "e1", "share": 0.5} | members)
    assert (reply.status_code, message in reply.json()["detail"]) == (status, True), reply.text
    assert not ExperimentsFile(folder).read()
    assert client.post("/v1/experiments/e1:stop").status_code == 404


def test_a_name_is_used_once(client: httpx2.Client) -> None:
    start(client, "e1", 0.1).raise_for_status()
    client.post("/v1/experiments/e1:stop").raise_for_status()
    assert start(client, "e1", 0.1).status_code == 422


def test_the_command_line_starts_what_running_services_follow(
    client: httpx2.Client, folder: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.json"
    weights.write_text('{"interest": 1.0}')
    arms = f"A=current,B={tiny_bundle.SECOND}:{weights}"
    options = ("--bundle", str(folder))
    done = invoke("experiment", "start", "e1", "--arms", arms, "--share", "1", *options)
    assert (done.code, done.out) == (0, "started e1: A, B, 100.00% of the users\n")
    assert eventually(lambda: arm(client, "u")[0] == "e1")
    listed = invoke("experiment", "status", *options)
    assert listed.out.startswith("e1  100.00% since ")
    assert f"B={tiny_bundle.SECOND} with weights" in listed.out
    assert invoke("experiment", "stop", "e1", *options).code == 0
    assert eventually(lambda: arm(client, "u")[0] is None)
    for wrong in ("A", "A=current", "A=current,B=20200101-00000000", "A=current,B=current:nowhere.json"):
        refused = invoke("experiment", "start", "e2", "--arms", wrong, *options)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err


def test_an_experiment_of_which_a_version_has_gone_does_not_run_and_is_named(
    client: httpx2.Client, folder: Path
) -> None:
    ExperimentsFile(folder).start(
        NewExperiment(name="e1", share=1.0, arms=[Arm(name="A"), Arm(name="B", version="20200101-00000000")])
    )

    def refused() -> list[str]:
        return [x["role"] for x in client.get("/v1/models").json()["refused"]]

    assert eventually(lambda: refused() == ["experiment e1"])
    assert arm(client, "u") == (None, None, tiny_bundle.FIRST)
    client.post("/v1/experiments/e1:stop").raise_for_status()
    assert refused() == []


def test_a_restart_keeps_every_user_in_their_arm(folder: Path, tmp_path: Path) -> None:
    ExperimentsFile(folder).start(
        NewExperiment(name="e1", share=0.5, arms=[Arm(name="A"), Arm(name="B", version=tiny_bundle.SECOND)])
    )
    found = []
    for _ in range(2):
        with served(folder, MemoryStore(), tmp_path) as client:
            found.append({user: arm(client, user) for user in USERS})
    assert found[0] == found[1]
    BundleStore(folder).promote(tiny_bundle.SECOND)  # a control that is the current version follows it
    with served(folder, MemoryStore(), tmp_path) as client:
        assert all(arm(client, user)[:2] == found[0][user][:2] for user in USERS)


def test_arms_get_equal_parts_of_their_share_whatever_the_experiment_before(tmp_path: Path) -> None:
    file = ExperimentsFile(tmp_path)
    arms = [Arm(name=name) for name in "ABC"]
    first, second = (file.start(NewExperiment(name=name, share=0.4, arms=arms)) for name in ("e1", "e2"))
    loaded = [LoadedExperiment(experiment, [None] * 3) for experiment in (first, second)]
    counts: Counter[tuple[str, str]] = Counter()
    for i in range(30_000):
        if (found := assignment(str(i), loaded)) is not None:
            counts[found.experiment, found.arm.name] += 1
    assert len(counts) == 6
    assert chisquare(list(counts.values()), [30_000 * 0.4 / 3 * counts.total() / 24_000] * 6).pvalue > 1e-4
    assert counts.total() == pytest.approx(24_000, abs=350)
    with pytest.raises(BundleNotFound):
        file.stop("e3")
    with pytest.raises(Invalid):
        file.start(NewExperiment(name="e1", share=0.1, arms=arms))
