"""A share of the users is answered by a second version: who, by what, and how it begins and ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput, BundleError
from service.inference.rollout import Rollout
from tests.service import tiny_bundle
from tests.service.broken_bundle import BROKEN, write_broken
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, served
from tests.service.tiny_bundle import FIRST, SECOND

USERS = [f"user-{i}" for i in range(40)]
HALF = Rollout(SECOND, 0.5)
LABEL = {FIRST: 0.5, SECOND: 0.375}
"""Of an event that is half watched."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    tiny_bundle.write_root(folder, FIRST, SECOND)
    return folder


@contextmanager
def app(root: Path, tmp_path: Path, **options: Any) -> Iterator[httpx2.Client]:
    with served(root, MemoryStore(), tmp_path / "data", **options) as client:
        yield client


def version_of(user: str, trial: Rollout = HALF) -> str:
    return trial.version if trial.includes(user) else FIRST


def begin(client: httpx2.Client, version: str = SECOND, share: float = 0.5) -> httpx2.Response:
    return client.post(f"/v1/models/{version}:split", json={"share": share})


def answered(client: httpx2.Client, user: str) -> tuple[str, float, str]:
    """Version and label of one event, and the version of a slate."""
    reply = client.post("/label?store=false", json=event(user_id=user)).json()
    slate = client.post("/rerank", json={"user_id": user, "candidates": [{"video_id": "v1"}]}).json()
    return reply["model_version"], reply["labels"][0]["label"], slate["model_version"]


def all_users_have(client: httpx2.Client, version: str) -> bool:
    return all(answered(client, user) == (version, LABEL[version], version) for user in USERS[:8])


# --- who belongs to a share

shares = st.floats(0, 1)
versions = st.from_regex(r"[0-9]{8}-[0-9a-f]{8}", fullmatch=True)


@given(st.text(min_size=1), versions, shares, shares)
def test_a_user_of_a_share_belongs_to_every_larger_one(
    user: str, version: str, share: float, other_share: float
) -> None:
    user = user.encode("utf-8", "replace").decode()
    small, large = sorted((share, other_share))
    assert Rollout(version, small).includes(user) <= Rollout(version, large).includes(user)
    assert Rollout(version, 1.0).includes(user)
    assert not Rollout(version, 0.0).includes(user)


def test_a_share_is_that_share_of_the_users_and_each_version_draws_others() -> None:
    users = [str(i) for i in range(20_000)]
    tenth, other = Rollout(FIRST, 0.1), Rollout(SECOND, 0.1)
    inside = [user for user in users if tenth.includes(user)]
    assert len(inside) == pytest.approx(2000, abs=200)  # 4.7 standard deviations
    assert len([user for user in inside if other.includes(user)]) == pytest.approx(200, abs=70)


@given(versions, shares)
def test_what_a_trial_is_written_as_is_read_as_the_same(version: str, share: float) -> None:
    assert Rollout.parse(f"{version}={share!r}\n", "SPLIT") == Rollout(version, share)


@pytest.mark.parametrize("text", ["", "x", "=0.5", "x=", "x=2", "x=-0.1", "x=nan", "x=half", "x=0.1=0.2"])
def test_what_is_no_trial_says_so(text: str) -> None:
    with pytest.raises(BadInput, match="SPLIT must be VERSION=SHARE"):
        Rollout.parse(text, "SPLIT")


# --- answers


def test_each_user_is_answered_by_one_version_that_every_reply_names(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        assert begin(client).json() == {
            "active": FIRST,
            "split": {"version": SECOND, "share": 0.5},
            "shadow": None,
        }
        for user in USERS:
            assert answered(client, user) == (version_of(user), LABEL[version_of(user)], version_of(user))
        second = len([user for user in USERS if version_of(user) == SECOND])
        assert 10 < second < 30
        lines = client.get("/metrics").text.splitlines()
        for endpoint in ("rerank", "label"):
            for version, count in ((FIRST, len(USERS) - second), (SECOND, second)):
                labels = f'{{endpoint="{endpoint}",version="{version}"}}'
                assert f"reelrank_answers_total{labels} {count}.0" in lines
        assert f'reelrank_bundle_share{{role="split",version="{SECOND}"}} 0.5' in lines
        models = client.get("/v1/models").json()
        assert (models["active"], models["split"]) == (FIRST, {"version": SECOND, "share": 0.5})


def test_a_body_of_several_users_has_each_users_own_version(root: Path, tmp_path: Path) -> None:
    events = [event(f"e{i}", user) for i, user in enumerate(USERS)]
    with app(root, tmp_path) as client:
        begin(client).raise_for_status()
        reply = client.post("/label", json=events).json()
        assert reply["model_version"] == FIRST
        assert [label["event_id"] for label in reply["labels"]] == [e["event_id"] for e in events]
        for label in reply["labels"]:
            version = label.get("model_version", FIRST)
            assert (version, label["label"]) == (version_of(label["user_id"]), LABEL[version])

        lines = "".join(json.dumps(e) + "\n" for e in events)
        stream = client.post("/label", content=lines, headers={"content-type": "application/x-ndjson"})
        *labels, summary = [json.loads(line) for line in stream.text.splitlines()]
        assert [{k: v for k, v in label.items() if k != "duplicate"} for label in labels] == [
            {k: v for k, v in label.items() if k != "duplicate"} for label in reply["labels"]
        ]
        assert (summary["model_version"], summary["duplicates"]) == (FIRST, len(USERS))


def test_a_version_without_a_split_is_named_once(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        reply = client.post(
            "/label?store=false", json=[event(f"e{i}", u) for i, u in enumerate(USERS)]
        ).json()
    assert not [label for label in reply["labels"] if "model_version" in label]


# --- beginning and ending


def test_it_survives_a_restart_until_a_share_of_0_ends_it_which_does_too(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        begin(client, share=1.0).raise_for_status()
        assert all_users_have(client, SECOND)
    with app(root, tmp_path, split=f"{SECOND}=0.25") as client:  # what was called last wins over a setting
        assert all_users_have(client, SECOND)
        assert begin(client, share=0.0).json()["split"] is None
        assert begin(client, share=0.0).status_code == 200
        assert all_users_have(client, FIRST)
        assert f'reelrank_bundle_share{{role="split",version="{SECOND}"}} 0.0' in client.get("/metrics").text
    with app(root, tmp_path, split=f"{SECOND}=1") as client:
        assert all_users_have(client, FIRST)


def test_a_setting_begins_it(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path, split=f"{SECOND}=0.5", shadow=f"{SECOND}=0.1") as client:
        for user in USERS[:8]:
            assert answered(client, user) == (version_of(user), LABEL[version_of(user)], version_of(user))
        assert client.get("/v1/models").json()["shadow"] == {"version": SECOND, "share": 0.1}


def test_a_file_begins_and_ends_it(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        (root / "SPLIT").write_text(f"{SECOND}=1\n")
        assert eventually(lambda: all_users_have(client, SECOND))
        (root / "SPLIT").unlink()
        assert eventually(lambda: all_users_have(client, FIRST))


@pytest.mark.parametrize("role", ["split", "shadow"])
def test_a_file_that_cannot_be_read_leaves_it_as_it_is_until_it_can(
    root: Path, tmp_path: Path, role: str
) -> None:
    def state() -> tuple[Any, bool]:
        models = client.get("/v1/models").json()
        return models[role], any(refusal["role"] == role for refusal in models["refused"])

    running = {"version": SECOND, "share": 1.0}
    with app(root, tmp_path) as client:
        client.post(f"/v1/models/{SECOND}:{role}", json={"share": 1.0}).raise_for_status()
        file, aside = root / role.upper(), root / "aside"
        file.rename(aside)
        file.mkdir()  # cannot be read, as without a descriptor left
        assert eventually(lambda: state() == (running, True))
        file.rmdir()
        aside.rename(file)
        assert eventually(lambda: state() == (running, False))


def test_promoting_the_version_on_trial_gives_it_everybody_and_going_back_its_share(
    root: Path, tmp_path: Path
) -> None:
    with app(root, tmp_path) as client:
        begin(client).raise_for_status()
        client.post(f"/v1/models/{SECOND}:activate").raise_for_status()
        assert all_users_have(client, SECOND)
        assert client.get("/v1/models").json()["split"] is None
        client.post("/v1/models:rollback").raise_for_status()
        for user in USERS[:8]:
            assert answered(client, user)[0] == version_of(user)


def test_the_documents_examples_begin_and_end_it(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        paths = client.get("/openapi.json").json()["paths"]
        for role in ("split", "shadow"):
            content = paths[f"/v1/models/{{version}}:{role}"]["post"]["requestBody"]["content"]
            examples = content["application/json"]["examples"]
            for name, want in (("begin", True), ("end", False)):
                body = examples[name]["value"]
                reply = client.post(f"/v1/models/{SECOND}:{role}", json=body)
                assert reply.json()[role] == ({"version": SECOND, **body} if want else None)


# --- what cannot be


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"share": 1.5}, 422),
        ({"share": -0.1}, 422),
        ({"share": "half"}, 422),
        ({}, 422),
        ({"share": 0.5, "salt": 1}, 422),
        ([], 422),
    ],
)
def test_a_share_that_is_none_is_refused(root: Path, tmp_path: Path, body: Any, status: int) -> None:
    with app(root, tmp_path) as client:
        reply = client.post(f"/v1/models/{SECOND}:split", json=body)
        assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")
        assert all_users_have(client, FIRST)


def test_an_unknown_version_and_the_end_of_anothers_trial_are_refused(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        for share in (0.5, 0.0):
            assert begin(client, "20990101-00000000", share).status_code == 404
        begin(client).raise_for_status()
        reply = begin(client, FIRST, 0.0)
        assert (reply.status_code, SECOND in reply.json()["detail"]) == (409, True)
        assert client.get("/v1/models").json()["split"]["version"] == SECOND
        assert client.post(f"/v1/models/{SECOND}:shadow", content=b"NaN").status_code == 415


def test_one_fixed_version_has_no_trials(root: Path, tmp_path: Path) -> None:
    with app(root / FIRST, tmp_path) as client:
        reply = begin(client)
        assert (reply.status_code, "folder of versions" in reply.json()["detail"]) == (409, True)
    with pytest.raises(BundleError, match="fixed"), app(root / FIRST, tmp_path, split=f"{SECOND}=0.5"):
        pass


def test_a_setting_that_is_no_trial_ends_the_start(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="REELRANK_SPLIT must be"), app(root, tmp_path, split="half"):
        pass


@pytest.mark.parametrize("fault", ["golden rows", "another ranker"])
def test_a_version_that_cannot_be_used_is_refused_and_changes_nothing(
    root: Path, tmp_path: Path, fault: str
) -> None:
    write_broken(root, fault)
    with app(root, tmp_path) as client:
        begin(client).raise_for_status()
        reply = begin(client, BROKEN, 1.0)
        assert reply.status_code == 409
        assert answered(client, USERS[0])[0] == version_of(USERS[0])
        assert (root / "SPLIT").read_text() == f"{SECOND}=0.5\n"


def test_a_version_that_cannot_be_loaded_leaves_everybody_to_the_current_one_and_says_so(
    root: Path, tmp_path: Path
) -> None:
    write_broken(root, "truncated")
    gauge = f'reelrank_bundle_refused{{reason="corrupt_bundle",role="split",version="{BROKEN}"}}'
    with app(root, tmp_path, split=f"{BROKEN}=1") as client:
        assert all_users_have(client, FIRST)
        assert f"{gauge} 1.0" in client.get("/metrics").text
        (refusal,) = client.get("/v1/models").json()["refused"]
        assert (refusal["role"], refusal["version"]) == ("split", BROKEN)
        assert "ranker.onnx" in refusal["detail"]
        begin(client, SECOND, 1.0).raise_for_status()
        assert all_users_have(client, SECOND)
        assert f"{gauge} 0.0" in client.get("/metrics").text
        assert client.get("/v1/models").json()["refused"] == []


def test_a_version_that_comes_later_is_taken_when_it_is_there(root: Path, tmp_path: Path) -> None:
    third = "20260103-00000003"
    with app(root, tmp_path, split=f"{third}=1") as client:
        assert all_users_have(client, FIRST)
        tiny_bundle.write(tmp_path / third, third, scale=0.75)
        (tmp_path / third).rename(root / third)
        assert eventually(lambda: answered(client, "u") == (third, 0.375, third))


def test_a_version_without_a_label_of_the_current_one_cannot_have_its_users(
    root: Path, tmp_path: Path
) -> None:
    more = "20260104-00000004"
    tiny_bundle.write(root / more, more, grouped=True)
    with app(root, tmp_path) as client:
        begin(client, more, 1.0).raise_for_status()  # one with more labels can
        begin(client, SECOND, 1.0).raise_for_status()
        client.post(f"/v1/models/{more}:activate").raise_for_status()
        (refusal,) = client.get("/v1/models").json()["refused"]
        assert "'by_city'" in refusal["detail"]
        assert answered(client, "u")[0] == more
        assert begin(client, SECOND, 0.5).status_code == 409
        client.post("/v1/models:rollback").raise_for_status()
        assert eventually(lambda: answered(client, "u")[0] == SECOND)
