"""Own signals through the service: declared by the bundle, taken by /label, kept and merged by the store,
read by /rerank, all as torch has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
import pytest
import torch

from models.features import (
    NO_HISTORY,
    Candidates,
    Exposures,
    candidate_arrays,
    context_arrays,
    history_arrays,
    sequence_arrays,
)
from models.runtime import Bundle
from models.schema import Candidate, FeedbackEvent
from models.signals import Signals
from models.store import BundleStore
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, served
from tests.training._builders import Spread, assert_graph_answers_as_torch, export_ranker, log_of
from training.data import Interactions
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.gate import count_behaviours
from training.labelcraft.closed_form import LabelSurface
from training.labels import Scale, SignalLabel
from training.rankers import INTEREST, WATCH_TIME, MultiObjectiveRanker, outcomes
from training.train.rankers import TrainerConfig, fit_objectives

pytestmark = pytest.mark.slow

SIGNALS = Signals(positive=("favorite",), negative=("report",), numbers=("stars",))
OBJECTIVES = (WATCH_TIME, INTEREST, "favorite", "report")


class Exported(NamedTuple):
    bundle: Bundle
    folder: Path
    ranker: MultiObjectiveRanker
    surface: LabelSurface


@pytest.fixture(scope="module")
def log() -> Interactions:
    random = np.random.default_rng(0)
    plain = log_of(random.integers(0, 5, 200).tolist(), random.integers(0, 10**9, 200).tolist())
    log = plain.with_signals(SIGNALS)
    log.feedback[:, 8:] = random.random((200, 3)) < 0.2
    log.feedback[:, 10] *= random.integers(1, 6, 200)
    return log


@pytest.fixture(scope="module")
def exported(log: Interactions, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    config = FeedbackEncoderConfig(width=8, token=8, heads=2, hidden=8)
    encoder = FeedbackEncoder((9, 5, 4, 4), 2, (4,), config, SIGNALS)
    ranker = MultiObjectiveRanker(encoder, Spread(8), Scale().fit(log.watch_time_s), OBJECTIVES)
    ranker.head.fit_tables(log, seed=0)
    surface = LabelSurface().fit(log)
    surface.table.copy_(torch.rand(surface.table.shape))
    rows, label = np.arange(200), surface(torch.from_numpy(log.feedback)).numpy()
    loop = TrainerConfig(epochs=1, batch_size=50, counterfactual=0.5)
    fit_objectives(ranker, log, rows, loop, None, seed=0, label=label)
    folder = tmp_path_factory.mktemp("bundles")
    bundle = export_ranker(
        ranker, folder, surface, SignalLabel("favorite", SIGNALS), weights=dict.fromkeys(OBJECTIVES, 1.0)
    )
    BundleStore(folder).promote(bundle.manifest.version)
    return Exported(bundle, folder, ranker, surface)


@pytest.fixture(scope="module")
def client(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with served(exported.folder, MemoryStore(), tmp_path_factory.mktemp("data")) as client:
        yield client


def label(client: httpx2.Client, *events: dict[str, Any]) -> httpx2.Response:
    names = "labelcraft,signal_favorite"
    return client.post("/label", json={"events": events}, params={"labels": names})


def labels_of(reply: httpx2.Response) -> list[dict[str, float]]:
    return [one["labels"] for one in reply.json()["labels"]]


@pytest.mark.parametrize("steps", [0, 1, 20])
def test_the_graph_reads_signals_as_torch_does(exported: Exported, steps: int) -> None:
    assert exported.bundle.manifest.signals == SIGNALS
    assert_graph_answers_as_torch(exported.bundle, exported.ranker, 2, 3, steps)


def test_its_behaviour_is_counted_as_that_of_other_bundles(exported: Exported) -> None:
    assert "gains_after_hate" in count_behaviours(exported.bundle)


def test_a_signal_that_is_a_yes_or_no_is_an_outcome(log: Interactions) -> None:
    happened = outcomes(log.feedback, SIGNALS)
    np.testing.assert_array_equal(happened[:, -2:], log.feedback[:, 8:10])


def test_labels_know_what_was_given(client: httpx2.Client, exported: Exported) -> None:
    given: list[dict[str, bool | float]] = [{}, {"favorite": True}, {"report": True}, {"stars": 3.5}]
    found = labels_of(
        label(client, *(event(f"e{i}", "ann", signals=signals) for i, signals in enumerate(given)))
    )
    plain, favorite, report, stars = (one["labelcraft"] for one in found)
    feedback = torch.zeros(2, 11)
    feedback[:, :2], feedback[0, 2], feedback[1, 6] = torch.tensor([12.0, 24.0]), 1.0, 1.0
    liked, hated = exported.surface(feedback).tolist()
    assert favorite == pytest.approx(liked, abs=1e-5)
    assert report == pytest.approx(hated, abs=1e-5)
    assert len({plain, favorite, report}) == 3
    assert stars == plain
    assert [one["signal_favorite"] for one in found] == [0, 1, 0, 0]


def test_a_signal_that_comes_later_is_merged_and_kept(client: httpx2.Client) -> None:
    label(client, event("m1", "ben", signals={"stars": 2}))
    merged = label(client, event("m1", "ben", signals={"stars": 1, "favorite": True}))
    assert merged.json()["merged"] == 1
    assert labels_of(merged)[0]["signal_favorite"] == 1
    [kept] = client.get("/users/ben/sequence").json()["events"]
    assert kept["signals"] == {"stars": 2.0, "favorite": True}


@pytest.mark.parametrize(
    ("signals", "why"),
    [
        ({"save": True}, "There is no signal 'save'; this bundle knows favorite, report, stars."),
        ({"favorite": 1}, "`signals.favorite` must be true or false, found 1."),
        ({"stars": True}, "`signals.stars` must be a number from 0 to 1000000000, found True."),
        ({"stars": -1}, "`signals.stars` must be a number from 0 to 1000000000, found -1.0."),
    ],
)
def test_what_is_not_declared_is_refused_with_what_is(
    client: httpx2.Client, signals: dict[str, bool | float], why: str
) -> None:
    reply = label(client, event("good", "cem"), event("bad", "cem", signals=signals)).json()
    [refused] = reply["rejected"]
    assert (refused["event_id"], refused["code"], refused["detail"]) == ("bad", "invalid", why)
    assert refused["loc"] == f"signals.{next(iter(signals))}"
    assert len(reply["labels"]) == 1


def test_interactions_of_metarank_carry_them_by_type_and_field(client: httpx2.Client) -> None:
    def interaction(number: int, kind: str, *fields: dict[str, Any]) -> dict[str, Any]:
        return {
            "event": "interaction", "id": f"i{number}", "type": kind, "user": "eva", "item": "7",
            "timestamp": str(NOW_MS), "ranking": "r1",
            "fields": [{"name": "duration_s", "value": 9.0}, *fields],
        }  # fmt: skip

    given = [interaction(1, "favorite"), interaction(2, "rate", {"name": "stars", "value": 4})]
    assert client.post("/feedback", json=[*given, interaction(3, "report")]).json()["updated"] == 3
    [kept] = client.get("/users/eva/sequence").json()["events"]
    assert kept["signals"] == {"favorite": True, "report": True, "stars": 4.0}
    assert "hate" not in kept
    refused = client.post("/feedback", json=[interaction(4, "rate", {"name": "stars", "value": -1})]).json()
    assert "`signals.stars` must be a number" in str(refused)


def test_a_slate_is_ranked_by_what_was_given(client: httpx2.Client, exported: Exported) -> None:
    sent = [
        event(f"s{i}", "dan", video_id=str(i), timestamp_ms=NOW_MS + i, author_id="1", signals=signals)
        for i, signals in enumerate([{"favorite": True}, {}, {"report": True, "stars": 4.0}])
    ]
    assert label(client, *sent).json()["accepted"] == 3
    slate: list[dict[str, Any]] = [{"video_id": "5", "duration_s": 20.0, "author_id": "1"}, {"video_id": "6"}]
    body = {"user_id": "dan", "timestamp_ms": NOW_MS + 60_000, "candidates": slate}
    items = client.post("/rerank", json=body).json()["items"]
    exposures = Exposures.from_events([FeedbackEvent(**one) for one in sent])
    vocabulary = exported.bundle.vocabulary
    inputs = (
        sequence_arrays(exposures, vocabulary, NOW_MS + 60_000, SIGNALS)
        | candidate_arrays(Candidates.from_rows([Candidate(**one) for one in slate]), vocabulary)
        | context_arrays({}, None, vocabulary, ("one", "two"), ("kind",))
        | history_arrays(Exposures.from_events([]), NO_HISTORY, vocabulary)
    )
    assert inputs["sequence_feedback"][0, :, 8:].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 4]]
    with torch.no_grad():
        answered = exported.ranker(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    want = {
        one["video_id"]: dict(zip(OBJECTIVES, row, strict=True))
        for one, row in zip(slate, answered.objectives[0].tolist(), strict=True)
    }
    for item in items:
        assert item["objectives"] == pytest.approx(want[item["video_id"]], abs=1e-5)
