"""POST /label with labels that compare within groups: the tag of the video, the profile of the user."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from models.errors import StoreUnavailable
from service.state import UserState
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import event, served

UNKNOWN = 0.1
"""Row 1, over 10."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("groups")
    tiny_bundle.write(root / tiny_bundle.FIRST, grouped=True)
    return root / tiny_bundle.FIRST


@pytest.fixture(scope="module")
def client(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with served(bundles, MemoryStore(), tmp_path_factory.mktemp("data")) as http:
        yield http


def labels(client: httpx2.Client, names: str, *events: dict[str, object]) -> list[dict[str, float]]:
    reply = client.post("/label", params={"labels": names}, json={"events": events})
    assert reply.status_code == 200, reply.text
    return [e["labels"] for e in reply.json()["labels"]]


def live(client: httpx2.Client, user: str, city: float | str) -> None:
    assert client.put("/users", json=[{"user_id": user, "profile": {"city": city}}]).status_code == 200


@pytest.mark.parametrize(
    ("tag", "want"), [("t1", 0.2), ("t2", 0.3), ("never heard of", UNKNOWN), (None, UNKNOWN)]
)
def test_a_label_by_tag_goes_by_the_events_tag(
    client: httpx2.Client, user: str, tag: str | None, want: float
) -> None:
    assert labels(client, "by_tag", event(f"{user}-1", user, tag=tag)) == [{"by_tag": want}]


def test_a_tag_that_the_event_lacks_is_the_catalogues(
    client: httpx2.Client, user: str, new_id: Callable[[], str]
) -> None:
    video = new_id()
    assert client.put("/videos", json=[{"video_id": video, "duration_s": 48.0, "tag": "t2"}]).is_success
    assert labels(client, "by_tag", event(f"{user}-1", user, video_id=video)) == [{"by_tag": 0.3}]


def test_a_label_by_user_goes_by_the_profile_that_was_put_and_without_one_by_everybody(
    client: httpx2.Client, new_id: Callable[[], str]
) -> None:
    first, second, elsewhere, unknown = (new_id() for _ in range(4))
    live(client, first, "1")
    live(client, second, 2.0)  # spelt as a number, the same category
    live(client, elsewhere, "3")
    events = [event(f"{user}-1", user) for user in (first, unknown, second, elsewhere, first)]
    got = labels(client, "pcr,by_city", *events)
    assert [e["by_city"] for e in got] == [0.2, UNKNOWN, 0.3, UNKNOWN, 0.2]
    assert {e["pcr"] for e in got} == {0.25}


def test_a_profile_that_changes_changes_the_next_label(client: httpx2.Client, user: str) -> None:
    assert labels(client, "by_city", event(f"{user}-1", user)) == [{"by_city": UNKNOWN}]
    live(client, user, "2")
    assert labels(client, "by_city", event(f"{user}-1", user)) == [{"by_city": 0.3}]
    assert client.delete(f"/users/{user}").is_success
    assert labels(client, "by_city", event(f"{user}-1", user)) == [{"by_city": UNKNOWN}]


def test_a_stream_is_labelled_as_a_body_is(client: httpx2.Client, new_id: Callable[[], str]) -> None:
    users = [new_id() for _ in range(3)]
    live(client, users[1], "1")
    body = b"\n".join(json.dumps(event(f"{user}-1", user, tag="t1")).encode() for user in users)
    reply = client.post(
        "/label",
        params={"labels": "by_city,by_tag"},
        content=body,
        headers={"content-type": "application/x-ndjson"},
    )
    *lines, _ = [json.loads(line) for line in reply.text.splitlines()]
    assert [line["labels"] for line in lines] == [
        {"by_city": want, "by_tag": 0.2} for want in (UNKNOWN, 0.2, UNKNOWN)
    ]


def test_more_users_than_are_read_at_once_each_get_their_own(
    client: httpx2.Client, new_id: Callable[[], str]
) -> None:
    users = [new_id() for _ in range(70)]
    for number, user in enumerate(users):
        live(client, user, 1 + number % 2)
    got = labels(client, "by_city", *(event(f"{user}-1", user) for user in users))
    assert [e["by_city"] for e in got] == [0.2, 0.3] * 35


class WriteOnly(MemoryStore):
    """A store that has lost what reads would come from."""

    async def read(self, user_id: str) -> UserState | None:
        raise StoreUnavailable("The store is away.")


def test_only_a_label_by_user_reads_profiles(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, WriteOnly(), tmp_path) as client:
        assert len(labels(client, "labelcraft,pcr,by_tag", event())) == 1
        assert client.post("/label", json=[event()]).status_code == 200
        reply = client.post("/label", params={"labels": "pcr,by_city"}, json=[event()])
        assert reply.status_code == 503
        assert reply.headers["retry-after"]
        assert client.post("/label", params={"labels": "by_city"}, json=[]).status_code == 200


def test_models_tells_which_labels_need_a_profile(client: httpx2.Client) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert model["labels"] == ["labelcraft", "pcr", "by_tag", "by_city"]
    assert model["labels_by_user"] == ["by_city"]
