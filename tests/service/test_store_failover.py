"""A primary dies while the service is used: what is answered meanwhile, what is lost of what was answered."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.crc import key_slot

from loadtests.faults.background_load import FAST, BackgroundLoad
from loadtests.faults.ledger import Ledger
from models.errors import StoreUnavailable
from service.state import RedisStore
from tests.service.clusters import Node, Watched, cluster, watched
from tests.service.running import Service, running
from tests.service.stores import event, run, until

pytestmark = [pytest.mark.xdist_group("clusters"), pytest.mark.slow]

PROFILE = dataclasses.replace(FAST, rate=40, before_s=0.6, fault_s=0.0, quiet_s=0.6, limit_s=20.0)


def through(service: Service, name: str, kill: Callable[[], object]) -> tuple[BackgroundLoad, Ledger]:
    """Load while a primary dies and until every answer is good again."""
    ledger = Ledger(name)
    where = urlsplit(service.url)
    with BackgroundLoad((where.hostname or "", where.port or 0), ledger, PROFILE) as load:
        load.during(kill)
    return load, ledger


def outcomes(load: BackgroundLoad) -> Counter[str]:
    return Counter(f"{answer.path} {answer.outcome}" for answer in load.answers)


def test_a_primary_of_a_cluster_dies_and_its_replica_goes_on(bundles: Path, tmp_path: Path) -> None:
    with cluster(tmp_path / "nodes", replicas=1) as nodes:
        dying = nodes.owner(int(key_slot(b"videos")))
        with (
            running(bundles, tmp_path / "data", REELRANK_STORE=nodes.url) as service,
            service.client() as http,
        ):
            load, ledger = through(service, "c", dying.kill)
            assert set(outcomes(load)) <= {"/label 200", "/label 503", "/rerank 200", "/rerank 200 degraded"}
            assert load.recovered_s() is not None, outcomes(load)
            assert nodes.owner(int(key_slot(b"videos"))) is not dying
            before = [a for a in load.answers if a.good and a.sent_s < load.fault_start_s]
            count = ledger.check(http)
        assert count.acknowledged > 3 * len(before) / 2
        assert count.duplicates == 0
        # What the primary answered in its last moment and had not sent on; a whole second of it is far above.
        assert count.losses <= 3 * PROFILE.rate / 2
        others = sum(a.good for a in load.answers if load.fault_start_s < a.sent_s < load.fault_start_s + 1)
        assert others > 0  # users of the other primaries are served meanwhile


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path / "watched") as ready:
        yield ready


def test_what_replicas_confirmed_survives_the_primary(
    bundles: Path, guarded: Watched, tmp_path: Path
) -> None:
    """With `replicas=1` and two of them: whichever is promoted, the sentinels take the one that has most."""
    first = guarded.primary
    url = f"{guarded.url}?replicas=1"
    with running(bundles, tmp_path / "data", REELRANK_STORE=url) as service, service.client() as http:
        load, ledger = through(service, "s", first.kill)
        assert set(outcomes(load)) <= {"/label 200", "/label 503", "/rerank 200", "/rerank 200 degraded"}
        assert load.recovered_s() is not None, outcomes(load)
        assert guarded.primary is not first
        count = ledger.check(http)
    assert count.acknowledged > 0
    assert (count.losses, count.duplicates) == (0, 0)


@pytest.mark.parametrize("replicas", [0, 2])
def test_a_primary_that_is_replaced_while_it_lives_is_left(guarded: Watched, replicas: int) -> None:
    """A planned failover: the old primary goes on taking writes for a while, all to be dropped. Who
    waits for every replica has none of them acknowledged; who does not soon looks elsewhere."""

    async def main() -> None:
        store = RedisStore.open(
            f"{guarded.url}?replicas={replicas}", timeout_s=5, read_timeout_s=5, sequence_length=10**6
        )
        first = guarded.primary
        acknowledged: dict[str, float] = {}
        refused: set[str] = set()
        number, after, began = 0, 0, time.monotonic()
        while after < 20:
            assert time.monotonic() < began + 30, refused
            if number == 20:
                guarded.sentinels[0].command("SENTINEL", "FAILOVER", "reels")
            number += 1
            after += guarded.primary is not first
            try:
                await store.record("alice", [event(f"e{number}", after_ms=number)])
                acknowledged[f"e{number}"] = time.monotonic()
            except StoreUnavailable as e:
                refused.add(e.reason)
        assert refused <= {"connection", "read_only", "loading", "replicas", "timeout"}
        state = None
        while state is None:
            with suppress(StoreUnavailable):
                state = await store.read("alice")
        lost = acknowledged.keys() - {each.event_id for each in state.events}
        await store.close()
        if replicas:
            assert not lost
        elif lost:
            when = [acknowledged[each] for each in lost]
            assert max(when) - min(when) < 6.0, "about what two sentinels need to agree, and a look"

    run(main())


def test_sentinels_may_have_a_password_of_their_own(guarded: Watched) -> None:
    guarded.sentinels[0].command("ACL", "SETUSER", "watcher", "on", ">word", "+@all")
    guarded.sentinels[0].command("ACL", "SETUSER", "default", "off")
    node = Node(guarded.sentinels[0].port, 0, guarded.sentinels[0].process, "watcher", "word")
    until(lambda: node.command("PING"))
    alone = f"redis+sentinel://127.0.0.1:{node.port}/reels"

    async def answers(url: str) -> str:
        store = RedisStore.open(url, timeout_s=5)
        try:
            await store.ping()
            return "yes"
        except StoreUnavailable as e:
            return e.reason
        finally:
            await store.close()

    assert run(answers(alone)) in ("denied", "connection")
    assert run(answers(f"{alone}?sentinel_username=watcher&sentinel_password=word")) == "yes"
