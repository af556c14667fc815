"""A bundle that reads histories is served what the store holds of them, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.features import HISTORY_LENGTH, Array
from models.manifest import Manifest
from models.runtime import Bundle
from models.store import BundleStore
from service.inference.gpu_batching import rank_together
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, running, served
from tests.service.tiny_bundle import FIRST, SEQUENCE_LENGTH, history_sum, video_row

D = 20.0


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one version, whose ranker reads histories."""
    root = tmp_path_factory.mktemp("reading")
    tiny_bundle.write(root / FIRST, history=True)
    BundleStore(root).promote(FIRST)
    return root


@pytest.fixture(scope="module")
def client(reading: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """Of the real program with its embedded store."""
    with running(reading, tmp_path_factory.mktemp("data")) as service, service.client() as http:
        yield http


def watch_ratio(client: httpx2.Client, user: str) -> float:
    body = {"user_id": user, "candidates": [{"video_id": "v", "duration_s": D}]}
    reply = client.post("/rerank", json=body)
    assert reply.status_code == 200, reply.text
    return float(reply.json()["items"][0]["watch_ratio"])


def exposures(user: str, count: int) -> list[dict[str, Any]]:
    """One a minute, of which some are long views and some liked."""
    return [
        event(
            f"{user}-{i}",
            user,
            timestamp_ms=NOW_MS + 60_000 * (i - count),
            video_id=f"v{i % 90}",
            watch_time_s=[3.0, 17.9, 18.0, 40.0][i % 4],
            duration_s=[40.0, 18.0][i % 2],
            like=i % 3 == 0,
        )
        for i in range(count)
    ]


def known(members: dict[str, Any]) -> tuple[int, bool, bool]:
    """What a history keeps of an event."""
    long_view = members["watch_time_s"] >= min(members["duration_s"], 18.0)
    return video_row(members["video_id"]), long_view, members.get("like", False)


@pytest.mark.parametrize(
    ("events", "imported"), [(0, 0), (0, 3), (50, 0), (50, 7), (53, 0), (70, 60), (100, 9), (130, 9)]
)
def test_a_ranker_reads_events_older_than_its_sequence_and_before_them_what_was_put(
    client: httpx2.Client, new_id: Callable[[], str], events: int, imported: int
) -> None:
    user = new_id()
    history: list[dict[str, Any]] = [
        {"video_id": f"v{i % 70}" if i % 5 else "unheard of", "long_view": i % 2 == 0, "like": i % 7 == 0}
        for i in range(imported)
    ]
    client.put("/users", json=[{"user_id": user, "history": history}]).raise_for_status()
    sent = exposures(user, events)
    if sent:
        client.post("/label", json=sent).raise_for_status()
    stored = sent[-100:]
    newest, older = stored[-SEQUENCE_LENGTH:], stored[:-SEQUENCE_LENGTH]
    entries = [(video_row(h["video_id"]), h["long_view"], h["like"]) for h in history]
    entries = [*entries, *map(known, older)][-HISTORY_LENGTH:]
    watched, lengths = (sum(e[name] for e in newest) for name in ("watch_time_s", "duration_s"))
    want = tiny_bundle.watch_ratio(watched, lengths, D) * (1 + history_sum(entries))
    assert watch_ratio(client, user) == pytest.approx(want, rel=1e-5)


def test_a_forgotten_users_history_is_not_read(client: httpx2.Client, new_id: Callable[[], str]) -> None:
    user = new_id()
    nothing = watch_ratio(client, user)
    body = [{"user_id": user, "history": [{"video_id": "v1", "like": True}]}]
    client.put("/users", json=body).raise_for_status()
    assert watch_ratio(client, user) > nothing
    assert client.delete(f"/users/{user}").json()["known"] is True
    assert watch_ratio(client, user) == nothing


def test_a_bundle_that_reads_no_histories_is_given_none(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path) as client:
        nothing = watch_ratio(client, "alice")
        body = [{"user_id": "alice", "history": [{"video_id": "v1", "like": True}]}]
        client.put("/users", json=body).raise_for_status()
        assert watch_ratio(client, "alice") == nothing


def test_a_version_that_reads_histories_may_follow_one_that_does_not_and_is_run_through_its_requests(
    tmp_path: Path,
) -> None:
    second = tiny_bundle.SECOND
    tiny_bundle.write_root(tmp_path / "bundles", FIRST)
    tiny_bundle.write(tmp_path / "bundles" / second, second, history=True)
    with served(tmp_path / "bundles", MemoryStore(), tmp_path / "data") as client:
        client.post("/label", json=exposures("alice", 60)).raise_for_status()
        before = watch_ratio(client, "alice")
        client.post(f"/v1/models/{second}:activate").raise_for_status()
        assert watch_ratio(client, "alice") > before
        client.post(f"/v1/models/{FIRST}:activate").raise_for_status()
        assert watch_ratio(client, "alice") == before


def test_the_columns_of_a_history_are_part_of_what_a_bundle_was_fitted_on(
    reading: Path, bundles: Path
) -> None:
    digests = {Manifest.read(root / FIRST).columns_digest for root in (reading, bundles)}
    assert len(digests) == 2


def test_the_raw_ranker_takes_histories_of_up_to_fifty(client: httpx2.Client) -> None:
    described = client.get("/v2/models/ranker").json()["inputs"]
    assert {"name": "history_ids", "datatype": "INT64", "shape": [-1, -1]} in described
    assert {"name": "history_feedback", "datatype": "FP32", "shape": [-1, -1, 2]} in described
    for entries, status in ((0, 200), (HISTORY_LENGTH, 200), (HISTORY_LENGTH + 1, 400)):
        inputs = []
        for spec in described:
            free = {0: 1, 1: {"sequence": 0, "history": entries}.get(spec["name"].partition("_")[0], 1)}
            shape = [free[axis] if size == -1 else size for axis, size in enumerate(spec["shape"])]
            inputs.append(spec | {"shape": shape, "data": [1] * int(np.prod(shape))})
        assert client.post("/v2/models/ranker/infer", json={"inputs": inputs}).status_code == status


def slate(bundle: Bundle, entries: int, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    free = {"B": 1, "N": 3, "L": 4, "H": entries}
    shapes = {
        s.name: [free[d] if isinstance(d, str) else d for d in s.shape] for s in bundle.manifest.ranker.inputs
    }
    return {
        spec.name: random.integers(1, 4, shapes[spec.name]).astype(spec.dtype)
        for spec in bundle.manifest.ranker.inputs
    }


@given(st.lists(st.integers(0, HISTORY_LENGTH), min_size=1, max_size=4), st.integers(0, 99))
def test_slates_that_are_ranked_together_have_each_its_own_history(
    reading: Path, lengths: list[int], seed: int
) -> None:
    bundle = Bundle.load(reading / FIRST)
    slates = [slate(bundle, entries, seed + i) for i, entries in enumerate(lengths)]
    names = ("watch_time_s", "watch_ratio")
    for alone, found in zip(slates, rank_together(bundle, slates, names), strict=True):
        for name, want in bundle.run_ranker(alone, names).items():
            np.testing.assert_allclose(found[name], want, rtol=1e-5)
