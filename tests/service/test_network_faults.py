"""A bad network between the service and a real store: slates go on, nothing is accepted that is not kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from loadtests.faults.proxy import FaultProxy
from service.state import EmbeddedServer, RedisStore
from service.state.breaker import FAILURES
from tests.service.running import event, eventually, served
from tests.service.stores import embedded

pytestmark = pytest.mark.slow

DEADLINE_MS = 2000
SLATE = {"user_id": "alice", "candidates": [{"video_id": f"v{i}", "duration_s": 20.0} for i in range(20)]}


@dataclass
class Setting:
    proxy: FaultProxy
    client: httpx2.Client

    def rerank(self) -> httpx2.Response:
        return self.client.post("/rerank", json=SLATE, headers={"X-Deadline-Ms": str(DEADLINE_MS)})

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def breaker(self, calls: str) -> float:
        return self.metric(f'reelrank_store_breaker_state{{calls="{calls}"}}')


@pytest.fixture(scope="module")
def setting(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with ExitStack() as stack:
        url = stack.enter_context(embedded(tmp_path_factory.mktemp("valkey")))
        proxy = stack.enter_context(FaultProxy(url.removeprefix("unix://").partition("?")[0]))
        store = RedisStore.open(f"redis://127.0.0.1:{proxy.port}")
        client = stack.enter_context(served(bundles, store, tmp_path_factory.mktemp("data")))
        yield Setting(proxy, client)


@pytest.fixture
def healthy(setting: Setting) -> Iterator[Setting]:
    """With one exposure of alice; after the test it must come to that again, without a restart."""
    setting.client.post("/label", json=event()).raise_for_status()
    yield setting
    setting.proxy.heal()
    assert eventually(lambda: setting.rerank().json().get("degraded") == [])
    assert eventually(lambda: setting.client.post("/label", json=event()).status_code == 200)
    assert (setting.breaker("reads"), setting.breaker("writes")) == (0, 0)


NO_ANSWER: dict[str, Callable[[FaultProxy], None]] = {
    "refused": lambda proxy: proxy.refuse(),
    "half open": lambda proxy: proxy.half_open(),
    "trickling": lambda proxy: proxy.trickle(5),
    "late": lambda proxy: proxy.delay(0.4),
}


@pytest.mark.parametrize("fault", NO_ANSWER)
def test_with_the_store_away_slates_go_on_and_writes_are_refused(healthy: Setting, fault: str) -> None:
    NO_ANSWER[fault](healthy.proxy)
    for _ in range(2 * FAILURES):
        slate = healthy.rerank()
        assert (slate.status_code, slate.json()["degraded"]) == (200, ["history"])
        assert slate.json()["took_ms"] <= DEADLINE_MS
    assert healthy.breaker("reads") > 0
    calls: list[Callable[[], httpx2.Response]] = [
        lambda: healthy.client.post("/label", json=event("e2")),
        lambda: healthy.client.put("/videos", json=[{"video_id": "v1", "duration_s": 9}]),
        lambda: healthy.client.put("/users", json=[{"user_id": "bob", "profile": {}}]),
        lambda: healthy.client.get("/users/alice/sequence"),
        lambda: healthy.client.delete("/users/alice"),
    ]
    for call in calls:
        refused = call()
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert int(refused.headers["retry-after"]) >= 1


def test_an_open_circuit_takes_nothing_of_a_slates_time(healthy: Setting) -> None:
    healthy.proxy.half_open()
    for _ in range(2 * FAILURES):
        healthy.rerank()
    timings = [healthy.rerank().headers["server-timing"] for _ in range(9)]
    state_ms = sorted(float(re.findall(r"state;dur=([\d.]+)", timing)[0]) for timing in timings)
    assert state_ms[4] < 10  # a read that is waited for takes its time-out, 100 ms


def test_cut_connections_cost_nobody_anything(healthy: Setting) -> None:
    for turn in range(5):
        healthy.proxy.cut()
        assert healthy.rerank().json()["degraded"] == []
        healthy.proxy.cut()
        assert healthy.client.post("/label", json=event(f"cut-{turn}")).status_code == 200


def test_a_store_five_milliseconds_away_is_a_store(healthy: Setting) -> None:
    known = healthy.rerank().json()["history_length"]
    healthy.proxy.delay(0.005)
    slate = healthy.rerank().json()
    assert (slate["degraded"], slate["history_length"]) == ([], known)
    assert healthy.client.post("/label", json=event()).json()["duplicates"] == 1


def test_one_too_slow_for_slates_may_still_keep_events(healthy: Setting) -> None:
    healthy.proxy.delay(0.06)  # 120 ms there and back: over a read's time-out, within a command's
    for _ in range(2 * FAILURES):
        slate = healthy.rerank()
        assert (slate.status_code, slate.json()["degraded"]) == (200, ["history"])
    assert healthy.breaker("reads") > 0
    assert healthy.client.post("/label", json=event()).status_code == 200
    assert healthy.breaker("writes") == 0


def test_many_calls_to_a_frozen_store_leave_its_connections_usable(bundles: Path, tmp_path: Path) -> None:
    """More calls at once than there are connections, all given up: afterwards every one works."""
    with EmbeddedServer(tmp_path / "valkey") as server, FaultProxy(str(server._socket)) as proxy:
        store = RedisStore.open(f"redis://127.0.0.1:{proxy.port}")
        with served(bundles, store, tmp_path) as client:
            batch = [event(f"e{i}", f"u{i}") for i in range(300)]
            client.post("/label", json=batch).raise_for_status()
            proxy.half_open()
            assert client.post("/label", json=batch).status_code == 503
            proxy.heal()
            proxy.cut()  # what was swallowed will never be answered on these
            assert eventually(lambda: client.post("/label", json=event("e0", "u0")).status_code == 200)
            again = client.post("/label", json=batch)
            assert (again.status_code, again.json()["duplicates"]) == (200, 300)
