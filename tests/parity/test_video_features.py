"""Own features of videos, from the table beside a log to the answers of a service: PUT /videos, the store,
the catalogue and the graph give what torch computes from the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
import polars as pl
import pytest
import torch

from models.manifest import Training
from models.runtime import Bundle
from models.schema import Video
from models.store import BundleStore
from models.video_features import VideoFeatures
from service.catalogue.catalogue import Catalogue
from service.catalogue.file import CatalogueWriter
from service.state import codec
from tests.service.memory_store import MemoryStore
from tests.service.running import served
from tests.training._builders import Spread
from tests.training.own_csv import prepared, row, write
from training.data import Dataset, Interactions
from training.encoders import FeedbackEncoderConfig, inputs_for, plain_features, plain_names
from training.export.bundle import export
from training.gate import count_behaviours
from training.labels import PCR, LabelMakers, Scale
from training.rankers import INTEREST, WATCH_TIME, MultiObjectiveRanker
from training.train.rankers import TrainerConfig, fit_objectives
from training.train.run_config import new_encoder

pytestmark = pytest.mark.slow

FEATURES = VideoFeatures(numbers=("quality",), categories=("topics", "language"), embeddings={"clip": 3})
OBJECTIVES = (WATCH_TIME, INTEREST)
VIDEOS = 12


def features_of(video: int) -> dict[str, Any]:
    """Every video lacks another of them, and one has none."""
    values = {
        "quality": video * 1.1,
        "language": ["de", "fr"][video % 2],
        "topics": ["pets", "cars", "news"][: 1 + video % 3],
        "clip": [0.1 * video, -0.3, 2.5],
    }
    return {name: value for n, (name, value) in enumerate(values.items()) if (video + n) % 5 and video}


class Exported(NamedTuple):
    bundle: Bundle
    folder: Path
    ranker: MultiObjectiveRanker
    dataset: Dataset
    log: Interactions


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("features")
    rows = [row(f"u{n % 4}", f"v{n * 7 % VIDEOS}", 600 * n, play_seconds=n % 25) for n in range(60)]
    videos = pl.DataFrame([{"vid": f"v{n}"} | features_of(n) for n in range(VIDEOS)])
    videos.write_parquet(folder / "videos.parquet")
    dataset, _ = prepared(write(folder / "log.csv", rows), folder / "data", videos=folder / "videos.parquet")
    vocabulary = dataset.vocabulary(rows_before(dataset, 40), 2)
    log = dataset.interactions(vocabulary)
    torch.manual_seed(0)
    config = FeedbackEncoderConfig(width=8, token=8, heads=2, hidden=8, profile_dropout=0.3)
    encoder = new_encoder(config, vocabulary, (), (), video_features=dataset.video_features)
    ranker = MultiObjectiveRanker(encoder, Spread(8), Scale().fit(log.watch_time_s), OBJECTIVES)
    ranker.head.fit_tables(log, seed=0)
    label = np.zeros(len(log), np.float32)
    loop = TrainerConfig(epochs=1, batch_size=20)
    fit_objectives(ranker, log, np.arange(len(log)), loop, None, seed=0, label=label)
    with torch.no_grad():
        assert encoder.own is not None
        encoder.own.table.weight.normal_()
    training = Training(
        recipe="test", seed=0, dataset="own", source="", licence="", rows=60, users=4, watermark_ms=3,
        git_commit="", machine="",
    )  # fmt: skip
    version = export(
        LabelMakers([PCR()]).fit_percentiles(log),
        ranker,
        vocabulary,
        folder / "bundles",
        training=training,
        weights=dict.fromkeys(OBJECTIVES, 1.0),
        sequence_length=100,
        video_features=dataset.video_features,
    )
    BundleStore(folder / "bundles").promote(version.name)
    return Exported(Bundle.load(version), folder / "bundles", ranker.eval(), dataset, log)


def rows_before(dataset: Dataset, count: int) -> int:
    """The moment of a row: videos that only later rows show are outside the vocabulary."""
    return int(dataset.log["timestamp_ms"][count])


@pytest.fixture(scope="module")
def client(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with served(exported.folder, MemoryStore(), tmp_path_factory.mktemp("state")) as client:
        yield client


def test_the_bundle_declares_them(exported: Exported, client: httpx2.Client) -> None:
    assert exported.dataset.video_features == exported.bundle.manifest.video_features == FEATURES
    [model] = client.get("/v1/models").json()["models"]
    assert model["video_features"] == FEATURES.model_dump(mode="json")


def test_the_ranker_reads_each_of_them(exported: Exported) -> None:
    x = inputs_for(exported.log, np.arange(60), 10)
    with torch.no_grad():
        known = exported.ranker(*x).watch_time_s
        for column in range(x.candidate_numbers.shape[2]):
            numbers = x.candidate_numbers.clone()
            numbers[..., column] += 1.0
            assert not torch.equal(
                exported.ranker(*x._replace(candidate_numbers=numbers)).watch_time_s, known
            )
        for start in range(0, x.candidate_categories.shape[2], 8):
            rows = x.candidate_categories.clone()
            rows[..., start : start + 8] = 0
            moved = exported.ranker(*x._replace(candidate_categories=rows)).watch_time_s
            assert not torch.equal(moved, known)


def test_the_service_answers_as_torch_does_from_the_log(exported: Exported, client: httpx2.Client) -> None:
    catalogue = [{"video_id": f"v{n}", "features": features_of(n)} for n in range(VIDEOS)]
    assert client.put("/videos", json=catalogue).json()["accepted"] == VIDEOS
    log, exposures = exported.log, exported.dataset.log
    for number, user in enumerate(log.user_ids):
        *before, last = exposures.filter(pl.col("user_id") == user).to_dicts()
        events = [{"event_id": f"{user}-{n}"} | {k: v for k, v in one.items() if v is not None}
                  for n, one in enumerate(before)]  # fmt: skip
        assert client.post("/label", json={"events": events}).json()["accepted"] == len(before)
        candidate = {name: last[name] for name in ("video_id", "duration_s", "author_id", "tag")}
        body = {"user_id": user, "timestamp_ms": last["timestamp_ms"], "candidates": [candidate]}
        [item] = client.post("/rerank", json=body).json()["items"]
        with torch.no_grad():
            want = exported.ranker(*inputs_for(log, np.flatnonzero(log.user == number)[-1:], 100))
        assert item["watch_time_s"] == pytest.approx(float(want.watch_time_s[0, 0]), rel=1e-5)
        assert [*item["objectives"].values()] == pytest.approx(want.objectives[0, 0].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (
            {"colour": "red"},
            "There is no feature 'colour' of videos; this bundle knows quality, topics, language, clip.",
        ),
        ({"quality": "good"}, "`features.quality` must be a number."),
        ({"clip": [1, 2]}, "`features.clip` must be 3 numbers, found 2 values."),
        ({"topics": list("abcdefghi")}, "`features.topics` may have 8 values, found 9."),
    ],
)
def test_what_is_not_declared_is_refused_with_what_is(
    client: httpx2.Client, features: dict[str, Any], why: str
) -> None:
    reply = client.put("/videos", json=[{"video_id": "good"}, {"video_id": "bad", "features": features}])
    assert reply.status_code == 422
    [error] = reply.json()["errors"]
    assert error == {"loc": f"videos[1].features.{next(iter(features))}", "msg": why}


def test_items_of_metarank_add_to_them(client: httpx2.Client) -> None:
    def item(name: str, value: object) -> dict[str, Any]:
        fields = [{"name": name, "value": value}]
        return {
            "event": "item",
            "id": f"of {name}",
            "item": "v3",
            "timestamp": "1700000000000",
            "fields": fields,
        }

    slate = {"user_id": "ben", "candidates": [{"video_id": "v3"}]}
    before = client.post("/rerank", json=slate).json()["items"][0]["score"]
    assert (
        client.post("/feedback", json=[item("quality", 99), item("topics", ["news"])]).json()["updated"] == 1
    )
    assert client.post("/rerank", json=slate).json()["items"][0]["score"] != before
    assert "must be 3 numbers" in client.post("/feedback", json=[item("clip", [1])]).text


def test_store_and_file_keep_them(tmp_path: Path) -> None:
    videos = [Video(video_id=f"v{n}", published_ms=None if n else 10**12, features=features_of(n) or None)
              for n in range(VIDEOS)]  # fmt: skip
    assert [codec.decode_video(v.video_id, codec.encode_video(v)) for v in videos] == videos
    with CatalogueWriter(tmp_path / "videos.lmdb") as writer:
        writer.add(videos)
        writer.finish()
    catalogue = Catalogue.from_file(tmp_path / "videos.lmdb")
    assert [catalogue.video(video.video_id) for video in videos] == videos


def test_trees_read_them_too_and_behaviour_is_counted(exported: Exported) -> None:
    names, categories = plain_names((), (), video_features=FEATURES)
    columns = plain_features(exported.ranker.encoder, inputs_for(exported.log, np.arange(9), 10))
    assert columns.shape == (9, 1, len(names))
    assert {names[i] for i in categories} >= {"video.language", "video.topics"}
    assert "gains_after_hate" in count_behaviours(exported.bundle)
