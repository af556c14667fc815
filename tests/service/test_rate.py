"""How often a key may ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput, Forbidden, TooFast
from service.http.auth import Keys
from service.token_bucket import TokenBucket
from tests.service.exchanges import is_problem
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, served


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    rate=st.floats(0.01, 1e4),
    burst=st.none() | st.floats(1, 100),
    steps=st.lists(st.floats(0, 10) | st.just(0.0), max_size=60),
)
def test_no_more_goes_through_than_the_burst_at_once_and_the_rate_after(
    rate: float, burst: float | None, steps: list[float]
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst=burst, clock=clock)
    begun, taken = clock.now, 0
    for step in steps:
        clock.now += step
        wait = bucket.take()
        if wait == 0:
            taken += 1
            assert taken <= max(1.0, burst or rate) + (clock.now - begun) * rate + 1e-6
        else:
            clock.now += wait * (1 + 1e-9) + 1e-9
            assert bucket.take() == 0, "the wait it was given was enough"
            taken += 1


def test_a_key_over_its_rate_is_told_when_to_come_back_and_the_others_go_on(
    bundles: Path, tmp_path: Path
) -> None:
    keys = "slow:label@0.2, other:label"
    with served(bundles, MemoryStore(), tmp_path, api_keys=keys) as client:
        slow, other = ({"authorization": f"Bearer {key}"} for key in ("slow", "other"))
        assert client.post("/label", json=event(), headers=slow).status_code == 200
        refused = client.post("/label", json=event("e2"), headers=slow)
        assert is_problem(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        for _ in range(20):
            assert client.post("/label", json=event(), headers=other).status_code == 200
        assert client.get("/users/alice/sequence", headers=slow).status_code == 403
        assert client.post("/label", json=event()).status_code == 401


def test_the_setting_is_the_rate_of_keys_that_name_none(bundles: Path, tmp_path: Path) -> None:
    keys = "k:label, free:label@0"
    with served(bundles, MemoryStore(), tmp_path, api_keys=keys, key_rate=20) as client:
        codes = [
            client.post("/label", json=event(), headers={"authorization": "Bearer k"}).status_code
            for _ in range(200)
        ]
        assert 429 in codes
        assert codes[:20] == [200] * 20
        free = {"authorization": "Bearer free"}
        assert {client.post("/label", json=event(), headers=free).status_code for _ in range(60)} == {200}
        assert eventually(
            lambda: (
                client.post("/label", json=event(), headers={"authorization": "Bearer k"}).status_code == 200
            )
        )


def test_a_key_without_the_right_does_not_spend_its_rate() -> None:
    keys = Keys.read("k:label@1", None)
    for _ in range(5):
        with pytest.raises(Forbidden):
            keys.check("Bearer k", "admin")
    keys.check("Bearer k", "label")
    with pytest.raises(TooFast):
        keys.check("Bearer k", "label")


def test_an_at_sign_and_a_colon_may_be_in_the_key() -> None:
    Keys.read("a@b:c@5:label@1", None).check("Bearer a@b:c@5", "label")


@pytest.mark.parametrize("rate", ["", "fast", "-1", "nan", "inf", "1@2"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    with pytest.raises(BadInput, match="RATE"):
        Keys.read(f"secret:label@{rate}", None)
