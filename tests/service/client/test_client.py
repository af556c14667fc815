"""The clients against the real service: the whole surface, both ways of calling it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import service.client as door
from models.errors import BadInput
from models.schema import Candidate, HistoryEntry
from service.client import Client, Event, Refused, Retries, Unreachable
from service.wire import OnTrial
from tests.service import tiny_bundle
from tests.service.client.exposures import exposure
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, Service, served


@pytest.fixture
def api(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def test_an_exposure_is_labelled_once_kept_and_forgotten(api: Client, user: str) -> None:
    event = exposure(f"{user}-1", user)
    first, again = api.label([event]), api.label([event])
    assert (first.accepted, first.labels[0].label, first.labels[0].duplicate) == (1, 0.5, False)
    assert (again.duplicates, again.labels[0].label, again.labels[0].duplicate) == (1, 0.5, True)
    assert api.sequence(user).events == [event]
    assert api.forget(user).known
    with pytest.raises(Refused) as caught:
        api.sequence(user)
    assert (caught.value.problem.status, caught.value.request_id != "") == (404, True)
    assert user in str(caught.value)


def test_which_labels_and_whether_to_store_is_the_callers(api: Client, user: str) -> None:
    reply = api.label([exposure(f"{user}-1", user)], labels=["pcr", "labelcraft"], store=False)
    assert reply.labels[0].labels == {"pcr": 0.25, "labelcraft": 0.5}
    with pytest.raises(Refused, match="404"):
        api.sequence(user)


def test_profiles_and_histories_are_put_together_or_alone(api: Client, user: str) -> None:
    entries = [HistoryEntry(video_id="v1", long_view=True), HistoryEntry(video_id="v2", like=True)]
    api.put_users({user: {"age": 30.0}}, {user: entries})
    api.put_users(histories={user: entries[1:]})
    found = api.sequence(user)
    assert (found.profile, found.history) == ({"age": 30.0}, entries[1:])


def test_a_slate_is_ordered_with_every_option(api: Client, user: str) -> None:
    api.put_videos([Candidate(video_id=f"{user}-a", duration_s=10.0)])
    api.put_users({user: {"age": 30.0}})
    candidates = [Candidate(video_id=f"{user}-b", duration_s=200.0), Candidate(video_id=f"{user}-a")]
    reply = api.rerank(
        user,
        candidates,
        request_id="mine",
        timestamp_ms=NOW_MS,
        top_k=1,
        weights={"watch_time": -1.0},
        objectives=["watch_time"],
        tab="1",
        explain=True,
        deadline_ms=5000.0,
    )
    assert (reply.request_id, [item.video_id for item in reply.items]) == ("mine", [f"{user}-a"])
    assert reply.items[0].explanation is not None
    assert list(reply.items[0].objectives) == ["watch_time"]
    assert api.sequence(user).profile == {"age": 30.0}


@pytest.mark.parametrize("name", ["x/ü?x=%2F#", "sequence", ".", "..", "/", "a/sequence", "users", "a//b/"])
def test_an_id_may_hold_what_a_path_may_not(api: Client, name: str) -> None:
    api.label([exposure(f"of {name}", name)])
    assert [event.user_id for event in api.sequence(name).events] == [name]
    assert api.forget(name).known


def test_versions_are_listed_activated_and_rolled_back(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, tiny_bundle.FIRST, tiny_bundle.SECOND)
    with served(root, MemoryStore(), tmp_path) as http, Client(str(http.base_url)) as api:
        assert api.ready().model_version == api.models().active == tiny_bundle.FIRST
        assert api.activate(tiny_bundle.SECOND).model_version == tiny_bundle.SECOND
        listed = {model.version: model for model in api.models().models}
        assert listed[tiny_bundle.SECOND].active
        assert listed[tiny_bundle.FIRST].labels == ["labelcraft", "pcr"]
        assert api.split(tiny_bundle.FIRST, 0.25).split == OnTrial(tiny_bundle.FIRST, 0.25)
        assert api.shadow(tiny_bundle.FIRST, 0.5).shadow == OnTrial(tiny_bundle.FIRST, 0.5)
        assert api.models().split == OnTrial(tiny_bundle.FIRST, 0.25)
        assert api.split(tiny_bundle.FIRST, 0).split is None
        assert api.shadow(tiny_bundle.FIRST, 0).shadow is None
        assert api.rollback().model_version == tiny_bundle.FIRST
        with pytest.raises(Refused, match="404"):
            api.activate("20990101-00000000")
        assert api.health().status == "live"


def test_batches_count_through_and_a_batch_of_nothing_good_is_a_reply(api: Client, user: str) -> None:
    bad = [f'{{"event_id": "{user}-bad-{i}"}}'.encode() for i in range(3)]
    events: list[Event] = [exposure(f"{user}-1", user), bad[0], exposure(f"{user}-2", user), *bad[1:]]
    replies = list(api.label_all(iter(events), batch=3))
    assert [len(reply.labels) for reply in replies] == [2, 0]
    assert [r.index for reply in replies for r in reply.rejected] == [1, 3, 4]
    with pytest.raises(Refused, match="no_such"):
        list(api.label_all(events, labels=["no_such"]))


def test_a_key_is_sent_and_its_lack_is_told(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, api_keys="k1:label") as http:
        url = str(http.base_url)
        with Client(url, key="k1") as api:
            assert api.label([exposure("e1", "alice")]).accepted == 1
            with pytest.raises(Refused) as caught:
                api.models()
            assert caught.value.problem.status == 403
            assert list(api.label_stream([exposure("e2", "alice")]))
        with Client(url) as api, pytest.raises(Refused, match="401"):
            list(api.label_stream([exposure("e2", "alice")]))


def test_nobody_there_is_said_and_a_wrong_url_at_once() -> None:
    with Client("http://127.0.0.1:1", retries=Retries(tries=2, first_pause_s=0.01)) as api:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1") as caught:
            api.health()
        assert not caught.value.sent
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
            list(api.label_stream([exposure("e1", "alice")]))
    for url in ("localhost:8000", "ftp://x", "http://", "http://[::1"):
        with pytest.raises(BadInput, match=r"URL|where a service"):
            Client(url)


def test_the_door_shows_what_it_says() -> None:
    assert all(hasattr(door, name) for name in door.__all__)
