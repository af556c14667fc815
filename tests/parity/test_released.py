"""The released bundle: what it promises on paper, and what it answers to real events."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.arrays import F32
from models.features import FEEDBACK_COLUMNS
from models.fusion import FLOOR
from models.manifest import VOCABULARY, Manifest
from models.runtime import Bundle
from models.store import BundleStore
from models.vocabulary import UNKNOWN
from tests.conftest import ROOT, run_command
from tests.service.running import Service, running
from tests.training.real_data import KUAIRAND, needs_kuairand
from training.data import Dataset, load, prepare
from training.rankers import INTEREST, NAMES, WATCH_TIME

BUNDLES = ROOT / "models" / "bundles"
STORE = BundleStore(BUNDLES)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.read(STORE.path(STORE.current()))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "data"
    prepare("kuairand-pure", KUAIRAND, out, progress=False)
    return out


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    return load(data)


def test_it_was_evaluated_on_days_it_had_not_seen_and_released_with_all(manifest: Manifest) -> None:
    evaluation = manifest.evaluation
    assert evaluation is not None
    assert evaluation.fitted_before_ms <= evaluation.from_ms < evaluation.to_ms
    assert manifest.training.watermark_ms == evaluation.to_ms - 1
    assert "dirty" not in manifest.training.git_commit


def test_its_seconds_beat_the_median_and_its_order_a_coin(manifest: Manifest) -> None:
    """Where watch time is reported: KuaiRand's single-column feed, tab 1."""
    assert manifest.evaluation is not None
    figures = manifest.evaluation.by_tab["1"]
    median = manifest.evaluation.baselines["median"]["mae_s.tab_1"]
    mae, order = figures["mae_s"], figures["xauc"]
    assert mae is not None
    assert median is not None
    assert mae < median
    assert order is not None
    assert order > 0.60


def test_a_longer_watch_and_a_like_are_worth_more(manifest: Manifest) -> None:
    """A label that falls with both would be an artefact."""
    bundle = Bundle.load(STORE.path(STORE.current()))
    watched = np.array([[share * d, d, *[0] * 6] for d in (10, 60, 200) for share in (0, 0.5, 1)], np.float32)
    liked = watched.copy()
    liked[:, 2] = 1
    no_groups = np.full((len(watched), 2), UNKNOWN)
    plain, with_like = (
        bundle.run_labeler({"feedback": feedback, "group_ids": no_groups})["labelcraft"].reshape(3, 3)
        for feedback in (watched, liked)
    )
    assert (np.diff(plain, axis=1) > 0).all()
    assert (with_like > plain).all()


def test_its_label_keeps_the_order_of_feedback_everywhere() -> None:
    """Over its whole surface and beyond: watch times to an hour, durations to ten minutes."""
    bundle = Bundle.load(STORE.path(STORE.current()))
    watched = np.concatenate([[0.0], np.geomspace(0.05, 3600, 150)])
    durations = np.geomspace(1, 600, 80)
    like, hate = FEEDBACK_COLUMNS.index("like"), FEEDBACK_COLUMNS.index("hate")

    def labels(*flags: int) -> F32:
        """`[durations, watch times]`"""
        rows = np.zeros((len(durations) * len(watched), len(FEEDBACK_COLUMNS)), np.float32)
        rows[:, 0], rows[:, 1] = np.tile(watched, len(durations)), np.repeat(durations, len(watched))
        rows[:, list(flags)] = 1
        inputs = {"feedback": rows, "group_ids": np.full((len(rows), 2), UNKNOWN)}
        label = np.asarray(bundle.run_labeler(inputs, ["labelcraft"])["labelcraft"], np.float32)
        return label.reshape(len(durations), len(watched))

    plain, liked, hated = labels(), labels(like), labels(hate)
    rounding = 2e-6
    for label in (plain, liked, hated):
        assert np.diff(label, axis=1).min() >= -rounding  # more watched is never worse
    assert (liked - plain).min() >= -rounding
    assert (hated - plain).max() < 0
    assert (hated - plain[:, :1]).max() <= rounding  # not even watched to the end, above a skip
    assert (labels(like, hate) - hated).max() <= rounding  # a hate is a hate, also of what was liked


def test_its_learned_labels_are_learned(manifest: Manifest) -> None:
    """The record behind the README; `export` asks for less."""
    learned = manifest.learned_labels
    assert learned is not None
    assert learned.allowed_unlearned is None
    assert learned.distance > 0.5
    assert learned.evidence is not None
    assert learned.evidence.over_frozen.difference >= 0.03
    assert learned.evidence.over_frozen.low > 0
    assert learned.evidence.over_shuffled.low > 0
    assert learned.evidence.halves_correlation >= 0.8
    likes = learned.likes_above_hates
    assert likes is not None
    assert likes.auc >= likes.watched_share_auc - 0.01


@pytest.mark.slow
@needs_kuairand
def test_its_labels_neither_pile_up_nor_follow_the_duration(dataset: Dataset) -> None:
    log = dataset.interactions(dataset.vocabulary())
    bundle = Bundle.load(STORE.path(STORE.current()))
    label = bundle.run_labeler({"feedback": log.feedback, "group_ids": log.groups}, ["labelcraft"])
    label_N = np.sort(np.asarray(label["labelcraft"], np.float64))
    near = np.searchsorted(label_N, label_N + 0.02, "right") - np.arange(len(label_N))
    assert near.max() / len(label_N) <= 0.4
    correlation = np.corrcoef(label["labelcraft"], np.log(log.duration_s))[0, 1]
    assert abs(correlation) <= 0.15


@pytest.mark.slow
def test_every_objective_is_returned_and_its_weight_moves_the_slate_its_way(
    manifest: Manifest, tmp_path: Path
) -> None:
    """On the mean of its logarithm, which is what the score is a sum of, in the first twenty."""
    known = list(json.loads((STORE.path(STORE.current()) / VOCABULARY).read_bytes())["video_id"])
    durations = np.random.default_rng(0).uniform(5, 200, 100)
    slate = {
        "user_id": "u",
        "timestamp_ms": 1651331030000,
        "candidates": [
            {"video_id": video, "duration_s": float(d)}
            for video, d in zip(known[:100], durations, strict=True)
        ],
    }
    seen = [
        {"event_id": f"e{i}", "user_id": "u", "video_id": video, "timestamp_ms": 1651330000000 + i, **watched}
        for i, (video, watched) in enumerate(
            zip(known[200:], 5 * [{"watch_time_s": 50.0, "duration_s": 50.0}], strict=False)
        )
    ]
    everything = (WATCH_TIME, INTEREST, *NAMES)
    assert set(manifest.objectives) == set(everything)
    with running(BUNDLES, tmp_path) as service:
        _post(service, "/label", {"events": seen})
        objectives = [item["objectives"] for item in _post(service, "/rerank", slate)["items"]]
        skip, long_view = ([each[name] for each in objectives] for name in ("skip", "long_view"))
        assert np.corrcoef(skip, long_view)[0, 1] < -0.2  # nothing but the log says so
        for name in everything:
            means = []
            for weight in (-1.0, 0.0, 0.5, 1.0, 4.0):
                weights = manifest.weights | {name: weight}
                items = _post(service, "/rerank", slate | {"weights": weights, "top_k": 20})["items"]
                assert set(items[0]["objectives"]) == set(everything)
                values = [max(item["objectives"][name], FLOOR) for item in items]
                means.append(float(np.log(values).mean()))
            # Replies are rounded to six places, which is a tenth of the rarest objectives.
            assert all(b >= a - 0.05 for a, b in itertools.pairwise(means)), (name, means)
            assert means[-1] > means[0], name


@pytest.mark.slow
@needs_kuairand
def test_ten_real_events_are_labelled_ranked_with_and_survive_kill_9(
    dataset: Dataset, tmp_path: Path
) -> None:
    log = dataset.log
    user = log["user_id"].value_counts(sort=True)["user_id"][0]
    rows = log.filter(pl.col("user_id") == user).head(10).to_dicts()
    events = [
        {k: v for k, v in row.items() if v is not None} | {"event_id": f"{i}"} for i, row in enumerate(rows)
    ]
    candidates = dataset.tables.videos.head(200).select("video_id", "duration_s", "author_id", "tag")
    slate: dict[str, Any] = {
        "user_id": user,
        "timestamp_ms": rows[-1]["timestamp_ms"] + 1000,
        "candidates": [{k: v for k, v in row.items() if v is not None} for row in candidates.to_dicts()],
    }
    with running(BUNDLES, tmp_path) as service:
        labels = _post(service, "/label", {"events": events})
        assert labels["accepted"] == 10
        assert all(0 <= event["label"] <= 1 for event in labels["labels"])
        assert len({event["label"] for event in labels["labels"]}) > 1
        first = _post(service, "/rerank", slate)
        assert first["history_length"] == 10
        assert len(first["items"]) == 200
        assert all(
            math.isfinite(item["watch_time_s"]) and item["watch_time_s"] >= 0 for item in first["items"]
        )
        assert [item["score"] for item in first["items"]] == sorted(
            (item["score"] for item in first["items"]), reverse=True
        )
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(10)
    with running(BUNDLES, tmp_path) as service:
        again = _post(service, "/rerank", slate)
        assert again["history_length"] == 10
        assert again["items"] == first["items"]


@pytest.mark.slow
@needs_kuairand
def test_what_it_has_seen_is_refused_unless_a_word_is_given(data: Path, tmp_path: Path) -> None:
    window = ("evaluate", "--bundle", BUNDLES, "--data", data, "--from", "2022-05-04", "--to", "2022-05-05")
    refused = run_command(*window)
    assert refused.returncode == 2
    assert "watermark" in refused.stderr
    figures = tmp_path / "figures.json"
    allowed = run_command(*window, "--tab", "1", "--allow-seen", "--json", figures)
    assert allowed.returncode == 0, allowed.stderr
    assert "SEEN" in allowed.stdout
    found = json.loads(figures.read_text())
    assert found["seen"] is True
    assert found["rows"] == found["by_tab"]["1"]["rows"] > 20_000


def _post(service: Service, path: str, body: dict[str, Any]) -> dict[str, Any]:
    with service.client() as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
