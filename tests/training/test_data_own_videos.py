"""Features of videos beside a log of one's own: numbers, categories of several values, embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.video_features import MAX_VALUES, VideoFeatures
from models.vocabulary import PADDING, UNKNOWN
from tests.training.own_csv import Row, prepared, refusal, rows, write

DECLARED = VideoFeatures(numbers=("quality",), categories=("language", "tags"), embeddings={"clip": 2})
CLEAN: list[Row] = [
    {"vid": "v0", "quality": 0.5, "tags": "pets|funny", "language": "de", "clip": "[0.25, -1]"},
    {"vid": "v1", "quality": "", "tags": '["pets"]', "language": "", "clip": "[1, 2, 3]"},
    {"vid": "v2", "quality": "many", "tags": "|".join("abcdefghijkl"), "language": 3, "clip": ""},
    {"vid": "v9", "quality": 7, "tags": "", "language": "fr", "clip": "[3, 4]"},
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path / "log.csv", [{k: v for k, v in r.items() if k != "category"} for r in rows()])


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return write(tmp_path / "videos.csv", CLEAN)


def test_they_are_guessed_and_kept(tmp_path: Path, log: Path, videos: Path) -> None:
    data, lines = prepared(log, tmp_path / "out", "videos.quality=quality:number", videos=videos)
    assert data.video_features == DECLARED
    table = data.tables.videos.filter(pl.col("video_id") != "v3")
    assert table["quality"].to_list() == [0.5, None, None, 7.0]
    assert table["tags"].to_list() == [["pets", "funny"], ["pets"], list("abcdefgh"), None]
    assert table["language"].to_list() == [["de"], None, ["3"], ["fr"]]
    assert table["clip"].to_list() == [[0.25, -1.0], [1.0, 2.0, 3.0], None, [3.0, 4.0]]
    assert table["tag"].to_list() == ["pets", "pets", "a", None]
    shown = " ".join("\n".join(lines).split())
    assert "videos.tags tags texts, one or several" in shown


def test_they_are_read_as_the_encoder_takes_them(tmp_path: Path, log: Path, videos: Path) -> None:
    data, _ = prepared(log, tmp_path / "out", "videos.quality=quality:number", videos=videos)
    vocabulary = data.vocabulary()
    assert vocabulary.fields["video.language"] == ["3", "de"]  # v9 has no row
    arrays = data.interactions(vocabulary)
    numbers, categories = arrays.features_of(np.arange(3))  # of u0: v0, v3, v2
    missing = np.float32("nan")
    np.testing.assert_array_equal(
        numbers, [[0.5, 0.25, -1], [missing, missing, missing], [missing, missing, missing]]
    )
    pets, funny = (vocabulary.index("video.tags", tag) for tag in ("pets", "funny"))
    assert categories.shape == (3, 2 * MAX_VALUES)
    assert categories[0, 0] == vocabulary.index("video.language", "de") != UNKNOWN
    assert categories[0, MAX_VALUES : MAX_VALUES + 3].tolist() == [pets, funny, PADDING]
    assert not categories[1].any()
    assert np.count_nonzero(categories[2]) == MAX_VALUES + 1


def test_the_mapping_that_is_written_is_read_again(tmp_path: Path, log: Path, videos: Path) -> None:
    first, _ = prepared(log, tmp_path / "first", "videos.rank=quality:id", videos=videos)
    again, _ = prepared(log, tmp_path / "again", mapping=tmp_path / "first" / "mapping.json", videos=videos)
    assert again.video_features == first.video_features
    assert "rank" in again.video_features.categories
    assert again.tables.videos.equals(first.tables.videos)


def test_lists_of_parquet_and_ndjson_are_those_of_csv(tmp_path: Path, log: Path) -> None:
    table = pl.DataFrame(
        {
            "vid": ["v0", "v1"],
            "tags": [["pets", "funny"], ["cars"]],
            "clip": pl.Series([[0.1, 0.2], [1.0, -2.5]], dtype=pl.List(pl.Float32)),
        }
    )
    table.write_parquet(tmp_path / "videos.parquet")
    table.write_ndjson(tmp_path / "videos.ndjson")
    found = [
        prepared(log, tmp_path / kind, videos=tmp_path / f"videos.{kind}")[0]
        for kind in ("parquet", "ndjson")
    ]
    for data in found:
        assert data.video_features == VideoFeatures(categories=("tags",), embeddings={"clip": 2})
        videos = data.tables.videos.filter(pl.col("video_id") < "v2")
        assert videos["tags"].to_list() == [["pets", "funny"], ["cars"]]
        assert videos["tag"].to_list() == ["pets", "cars"]
        np.testing.assert_array_equal(
            np.array(videos["clip"].to_list(), np.float32), np.array(table["clip"].to_list(), np.float32)
        )


def test_a_log_without_the_features_of_a_bundle_has_unknown_ones(
    tmp_path: Path, log: Path, videos: Path
) -> None:
    with_features, _ = prepared(log, tmp_path / "with", videos=videos)
    without, _ = prepared(log, tmp_path / "without")
    arrays = without.interactions(with_features.vocabulary(), video_features=with_features.video_features)
    numbers, categories = arrays.features_of(np.arange(len(arrays)))
    assert np.isnan(numbers).all()
    assert not categories.any()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("videos.duration_s=quality:vector", "cannot be in 'vector'"),
        ("videos.published_ms=quality", "the name of something else"),
        ("videos.a-b=quality", "no name of a feature"),
        ("videos.score=points", "no column 'points'"),
        ("videos.clip=vid:vector", "no value of 'vid' is a vector"),
    ],
)
def test_what_cannot_be_declared_is_refused(
    tmp_path: Path, log: Path, videos: Path, change: str, why: str
) -> None:
    assert why in refusal(log, tmp_path / "out", change, videos=videos)
