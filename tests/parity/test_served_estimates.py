"""What a service logs while it explores is enough to estimate other weights and other bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from models.errors import BadInput
from models.runtime import Bundle
from models.served_log import LoggedSlate, decoded_lines, log_files
from models.store import BundleStore
from tests.conftest import ROOT
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, served
from training.__main__ import app
from training.data.readers import served_exposures
from training.export.batch_label import label_exposures
from training.off_policy import PlackettLuce
from training.served_estimates.estimate import estimate_bundle
from training.served_estimates.explored_slates import ExploredSlates

VIDEOS, SHOWN, USERS, SLATES_A_USER = 8, 3, 120, 3
EXPLORE = {"temperature": 0.05, "epsilon": 0.1}
INTEREST = {"interest": 1.0}
"""The tiny bundle's interest grows with the author's number, and so do the seconds that users watch."""


def mean_seconds(video: int) -> float:
    return 2.0 + 2.0 * video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of almost random slates, which is what weights of `watch_time` make of equal durations."""
    root = tmp_path_factory.mktemp("served")
    bundle = tiny_bundle.write(root / "bundle")
    random = np.random.default_rng(0)
    candidates = [{"video_id": f"v{i}", "author_id": f"a{i}", "duration_s": 20.0} for i in range(VIDEOS)]
    with served(bundle, MemoryStore(), root / "data", log_dir=root / "log") as client:
        for user in range(USERS):
            patience = random.normal(1.0, 0.2)
            for number in range(SLATES_A_USER):
                moment = NOW_MS + 60_000 * number
                asked = {"user_id": f"u{user}", "candidates": candidates, "timestamp_ms": moment}
                asked |= {"request_id": f"r{user}-{number}", "explore": EXPLORE, "top_k": SHOWN}
                reply = client.post("/rerank", json=asked | {"weights": {"watch_time": 1.0}})
                items = reply.raise_for_status().json()["items"]
                events = []
                for position, item in enumerate(items, 1):
                    seconds = patience * mean_seconds(int(item["video_id"][1:])) * random.gamma(4.0, 0.25)
                    event: dict[str, Any] = {"event_id": f"{user}-{number}-{position}", "user_id": f"u{user}"}
                    event |= {"video_id": item["video_id"], "timestamp_ms": moment + 1000 * position}
                    event |= {
                        "watch_time_s": seconds,
                        "duration_s": 20.0,
                        "author_id": f"a{item['video_id'][1:]}",
                    }
                    events.append(event | {"request_id": asked["request_id"], "position": position})
                client.post("/label", json={"events": events}).raise_for_status()
    return root


def planted_value(folder: Path, weights: dict[str, float]) -> float:
    """What users would have watched of slates that are drawn by the interest."""
    bundle = Bundle.load(folder / "bundle")
    assert weights == INTEREST
    rows = bundle.vocabulary.encode("author_id", [f"a{i}" for i in range(VIDEOS)])
    score = 1 / (1 + np.exp(-rows / 10))
    marginals = PlackettLuce(score[None], **EXPLORE).marginals(SHOWN, draws=5000)[0]
    return float((marginals @ [mean_seconds(video) for video in range(VIDEOS)]).sum())


def test_other_weights_are_estimated_as_their_planted_value(folder: Path) -> None:
    found = estimate_bundle(folder / "log", Bundle.load(folder / "bundle"), INTEREST)
    assert found["refused"] is None
    truth = planted_value(folder, INTEREST)
    rows = {row["method"]: row for row in found["estimates"]}
    for method in ("SNIPS, position-based", "DR, position-based", "DR, cascade"):
        low, high = rows[method]["interval"]
        assert low <= truth <= high, method
        assert rows[method]["difference_interval"][0] > 0, method
    assert found["logged"]["interval"][1] < truth
    assert (found["slates"], found["users"]) == (USERS * SLATES_A_USER, USERS)
    assert found["whole_histories"] == found["known_candidates"] == 1.0


def test_the_logged_policy_itself_has_the_value_of_the_log(folder: Path) -> None:
    found = estimate_bundle(folder / "log", Bundle.load(folder / "bundle"), {"watch_time": 1.0})
    logged = found["logged"]["value"]
    for row in found["estimates"]:
        exact = "DR" not in row["method"]  # a model's mean is not quite that of the log
        assert row["value"] == pytest.approx(logged, rel=1e-3 if exact else 0.02), row["method"]
    assert found["effective_sample_size"] == pytest.approx(USERS * SLATES_A_USER, rel=1e-3)


def test_a_reward_may_be_any_outcome(folder: Path) -> None:
    bundle = Bundle.load(folder / "bundle")
    found = estimate_bundle(folder / "log", bundle, INTEREST, reward="skip", positions=2)
    assert 0 <= found["value"] < found["logged"]["value"] <= 2
    with pytest.raises(BadInput, match="unknown reward 'joy'; known are watch_time_s, effective_view"):
        estimate_bundle(folder / "log", bundle, reward="joy")


def test_a_reward_may_be_a_label_of_the_bundle(folder: Path) -> None:
    released = BundleStore(ROOT / "models" / "bundles")
    bundle = Bundle.load(released.path(released.current()))
    exposures = served_exposures(folder / "log").filter(pl.col("request_id").is_not_null())
    explored = ExploredSlates.read(folder / "log")
    earned = explored.rewards(exposures, "labelcraft", SHOWN, bundle)
    labels = label_exposures(bundle, exposures, "labelcraft")
    assert earned.sum() == pytest.approx(labels.sum(), rel=1e-6)
    assert 0 < labels.min() < labels.max() <= 1
    with pytest.raises(BadInput, match="'rad' groups users by their profiles"):
        explored.rewards(exposures, "rad", SHOWN, bundle)


def test_the_command_prints_and_writes_what_was_estimated(folder: Path, tmp_path: Path) -> None:
    weights, figures = tmp_path / "weights.json", tmp_path / "figures.json"
    weights.write_text(json.dumps(INTEREST))
    arguments = ["estimate", "--log", str(folder / "log"), "--bundle", str(folder / "bundle")]
    ran = CliRunner().invoke(app, [*arguments, "--weights", str(weights), "--json", str(figures)])
    assert ran.exit_code == 0, ran.output
    assert "DR, position-based" in ran.output
    found = json.loads(figures.read_text())
    assert {"value", "interval", "effective_sample_size", "method"} <= set(found)
    weights.write_text("[1]")
    refused = CliRunner().invoke(app, [*arguments, "--weights", str(weights)])
    assert isinstance(refused.exception, BadInput)


# --- logs that cannot answer


def write_slates(folder: Path, slates: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "slates-1.ndjson").write_text("".join(json.dumps(slate) + "\n" for slate in slates))
    return folder


def logged(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in log_files(folder / "log", "slates")
        for line in path.read_text().splitlines()
    ]


def test_a_log_without_propensities_is_refused(folder: Path, tmp_path: Path) -> None:
    plain = [slate | {"propensity": [], "explore": {}} for slate in logged(folder)]
    with pytest.raises(BadInput, match="360 not explored"):
        estimate_bundle(write_slates(tmp_path / "log", plain), Bundle.load(folder / "bundle"))


def test_slates_that_no_event_names_are_refused(folder: Path, tmp_path: Path) -> None:
    log = write_slates(tmp_path / "log", logged(folder))
    with pytest.raises(BadInput, match="no event of the log names the slate"):
        estimate_bundle(log, Bundle.load(folder / "bundle"))


def test_slates_that_were_reordered_are_refused(folder: Path, tmp_path: Path) -> None:
    log = write_slates(tmp_path / "log", [slate | {"propensity": [0.9] * SHOWN} for slate in logged(folder)])
    for path in log_files(folder / "log", "events"):
        (log / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BadInput, match="are not those of their scores"):
        estimate_bundle(log, Bundle.load(folder / "bundle"))


def test_a_short_log_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    log = write_slates(tmp_path / "log", logged(folder)[:60])
    for path in log_files(folder / "log", "events"):
        (log / path.name).write_bytes(path.read_bytes())
    found = estimate_bundle(log, Bundle.load(folder / "bundle"), INTEREST)
    assert found["value"] is found["interval"] is None
    assert "at least 100 is needed" in found["refused"]
    assert found["estimates"] == []


def test_candidates_of_unknown_facts_are_refused_until_they_are_given(folder: Path, tmp_path: Path) -> None:
    """Else what was shown would be scored otherwise than what was not."""
    never = {f"n{i}": (20.0, f"a{i}", None) for i in range(4)}
    slates = [slate | {"video_id": [*slate["video_id"][:SHOWN], *never, "v0"]} for slate in logged(folder)]
    log = write_slates(tmp_path / "log", slates)
    for path in log_files(folder / "log", "events"):
        (log / path.name).write_bytes(path.read_bytes())
    bundle = Bundle.load(folder / "bundle")
    with pytest.raises(BadInput, match="of only 50% of the candidates are known"):
        estimate_bundle(log, bundle, INTEREST)
    rows = [(video, *facts) for video, facts in never.items()]
    schema = {"video_id": pl.String, "duration_s": pl.Float64, "author_id": pl.String, "tag": pl.String}
    given = pl.DataFrame(rows, schema, orient="row")
    assert estimate_bundle(log, bundle, INTEREST, videos=given)["known_candidates"] == 1.0
    given.write_parquet(tmp_path / "videos.parquet")
    arguments = ["estimate", "--log", str(log), "--bundle", str(folder / "bundle"), "--videos"]
    ran = CliRunner().invoke(app, [*arguments, str(tmp_path / "videos.parquet")])
    assert ran.exit_code == 0, ran.output
    wrong = CliRunner().invoke(app, [*arguments, str(log / "slates-1.ndjson")])
    assert "is no parquet file with video_id" in str(wrong.exception)


def test_a_retried_request_counts_once(folder: Path, tmp_path: Path) -> None:
    log = write_slates(tmp_path / "log", logged(folder) * 2)
    for path in log_files(folder / "log", "events"):
        (log / path.name).write_bytes(path.read_bytes())
    found = estimate_bundle(log, Bundle.load(folder / "bundle"), INTEREST)
    assert found["slates"] == found["left_out"]["repeated"] == USERS * SLATES_A_USER
    assert all(
        isinstance(s, LoggedSlate) for p in log_files(log, "slates") for s in decoded_lines(p, LoggedSlate)
    )
