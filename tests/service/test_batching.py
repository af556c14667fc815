"""Slates that are ranked together have the answers that each would have alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.environment import version_folder
from models.features import HISTORY_COLUMNS, Array
from models.manifest import INTERPOLATED
from models.runtime import Bundle
from service.inference.gpu_batching import CANDIDATES, USERS, Batches, bucket, rank_together
from service.pipeline.ranking import ranker_outputs
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import served

OUTPUTS = ("watch_time_s", "watch_ratio")


@pytest.fixture(scope="module")
def released() -> Bundle:
    return Bundle.load(version_folder(None))


def slate(bundle: Bundle, candidates: int, steps: int, seed: int) -> dict[str, Array]:
    """Random rows of the vocabulary and random feedback."""
    rng = np.random.default_rng(seed)
    manifest, size = bundle.manifest, bundle.vocabulary.size
    durations = rng.uniform(1, 200, (1, candidates)).astype(np.float32)
    durations[rng.random(durations.shape) < 0.1] = np.nan
    feedback = np.concatenate([rng.uniform(1, 60, (1, steps, 2)), rng.integers(0, 2, (1, steps, 6))], 2)
    ids = ("video_id", "author_id", "tag", "tab")

    def rows(names: Sequence[str], count: int) -> Array:
        return np.stack([rng.integers(1, size(name), count) for name in names], 1)[None]

    return {
        "sequence_ids": rows(ids, steps),
        "sequence_feedback": feedback.astype(np.float32),
        "sequence_age_s": np.sort(rng.uniform(0, 1e6, (1, steps)))[:, ::-1].astype(np.float32),
        "candidate_ids": rows(ids[:3], candidates),
        "candidate_duration_s": durations,
        "context_ids": rows(("tab",), 1)[0],
        "profile": rng.uniform(0, 100, (1, len(manifest.profile_numbers))).astype(np.float32),
        "profile_ids": np.array(
            [[rng.integers(1, size(f"profile.{name}")) for name in manifest.profile_categories]], np.int64
        ),
        "history_ids": rng.integers(1, size("video_id"), (1, steps // 2)),
        "history_feedback": rng.integers(0, 2, (1, steps // 2, len(HISTORY_COLUMNS))).astype(np.float32),
    }


shapes = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 50)), min_size=1, max_size=5)


@settings(max_examples=15)
@given(shapes, st.integers(0, 2**32))
def test_together_they_have_the_answers_of_each_alone(
    released: Bundle, shapes: list[tuple[int, int]], seed: int
) -> None:
    slates = [slate(released, n, steps, seed + i) for i, (n, steps) in enumerate(shapes)]
    names = ranker_outputs(released, {}, explain=True)
    for given_alone, found in zip(slates, rank_together(released, slates, names), strict=True):
        for name, want in released.run_ranker(given_alone, names).items():
            assert found[name].shape == want.shape
            near = INTERPOLATED.get(name, 1e-4)
            np.testing.assert_allclose(found[name], want, rtol=near, atol=near, err_msg=name)


@given(st.integers(1, 5000))
def test_a_bucket_holds_what_it_is_asked_for_with_no_more_than_twice_the_room(size: int) -> None:
    for buckets in (USERS, CANDIDATES):
        found = bucket(size, buckets)
        assert size <= found
        assert found < 2 * size or found == buckets[0]


class Counted:
    """A bundle whose runs are noted: how many users and candidates each had."""

    def __init__(self, bundle: Bundle, before: Callable[[], None] = lambda: None) -> None:
        self.manifest = bundle.manifest
        self._bundle = bundle
        self._before = before
        self.runs: list[tuple[int, int]] = []

    def run_ranker(self, inputs: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
        self._before()
        self.runs.append(inputs["candidate_ids"].shape[:2])
        return self._bundle.run_ranker(inputs, names)


@pytest.fixture
def batches() -> Iterator[Batches]:
    made = Batches(max_candidates=1024, delay_s=0.01)
    yield made
    made.close()


def all_ranked(batches: Batches, bundle: Any, slates: Sequence[Mapping[str, Array]]) -> list[Any]:
    async def main() -> list[Any]:
        asked = (batches.run(bundle, inputs, OUTPUTS) for inputs in slates)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(main())


def test_slates_of_one_moment_are_one_run_and_each_has_its_own_answer(
    released: Bundle, batches: Batches
) -> None:
    counted = Counted(released)
    slates = [slate(released, 50 + i, 10 * i, i) for i in range(4)]
    found = all_ranked(batches, counted, slates)
    assert counted.runs == [(4, 64)]
    for inputs, answer in zip(slates, found, strict=True):
        want = released.run_ranker(inputs, OUTPUTS)
        np.testing.assert_allclose(answer["watch_time_s"], want["watch_time_s"], rtol=1e-4)


def test_no_run_has_more_candidates_than_allowed_unless_one_user_has(
    released: Bundle, batches: Batches
) -> None:
    counted = Counted(released)
    sizes = [200, 200, 300, 60, 1500, 10, 700, 64]
    found = all_ranked(batches, counted, [slate(released, n, 5, n) for n in sizes])
    assert [answer["watch_ratio"].shape for answer in found] == [(1, n) for n in sizes]
    assert all(users * candidates <= 1024 or users == 1 for users, candidates in counted.runs)
    assert len(counted.runs) < len(sizes)


def test_what_fails_fails_for_those_who_were_in_it_and_the_next_run_is_answered(
    released: Bundle, batches: Batches
) -> None:
    broken = iter([True, False])

    def before() -> None:
        if next(broken):
            raise RuntimeError("out of memory")

    counted = Counted(released, before)
    slates = [slate(released, 500, 5, i) for i in range(4)]
    found = all_ranked(batches, counted, slates)
    assert [isinstance(answer, RuntimeError) for answer in found] == [True, True, False, False]


def test_who_stops_waiting_is_left_out(released: Bundle, batches: Batches) -> None:
    counted = Counted(released)

    async def main() -> None:
        slates = [slate(released, 10, 5, i) for i in range(3)]
        first, second, third = (asyncio.create_task(batches.run(counted, s, OUTPUTS)) for s in slates)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, third)

    asyncio.run(main())
    assert counted.runs == [(2, 64)]


def test_on_a_gpu_slates_are_rank_together_and_answered_as_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_bundle.write(tmp_path / "bundles" / tiny_bundle.FIRST)
    body = {"user_id": "u", "candidates": [{"video_id": f"v{i}", "duration_s": 5 + i} for i in range(9)]}

    def answered() -> Any:
        with served(folder, MemoryStore(), tmp_path / "data") as client:
            return client.post("/rerank", json=body).raise_for_status().json()["items"]

    on_cpu = answered()
    runs: list[tuple[int, ...]] = []

    on_this = Bundle.run_ranker

    def run_ranker(bundle: Bundle, inputs: Mapping[str, Array], *names: Sequence[str]) -> dict[str, Array]:
        runs.append(inputs["candidate_ids"].shape[:2])
        return on_this(bundle, inputs, *names)

    monkeypatch.setattr(Bundle, "on_gpu", property(lambda bundle: True))
    monkeypatch.setattr(Bundle, "run_ranker", run_ranker)
    assert answered() == on_cpu
    assert runs[-1] == (1, 64)
    assert {(1, 64), (8, 512), (64, 512)} <= set(runs), "the buckets are run at warm-up"
