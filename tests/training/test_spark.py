"""`--engine spark`: what one machine computes, by partitions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from models.errors import BadInput
from models.store import BundleStore
from tests.conftest import ROOT
from tests.training.own_csv import row, write
from training.data import OwnLog, load, prepare
from training.evaluation.evaluate import open_bundle
from training.export.batch_label import label_log
from training.spark import label_log as label_log_by_spark
from training.spark import prepare_own, session, spark_session

pytestmark = pytest.mark.xdist_group("spark")  # one session for all

KEYS = ["timestamp_ms", "user_id", "video_id"]
LABELS = ("labelcraft", "rad")
"""The second groups users."""


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session of this process."""
    pytest.importorskip("pyspark", reason="the extra `spark` is not installed")
    if not session.has_java():
        pytest.skip("there is no Java, which Spark runs on")
    conf = tmp_path_factory.mktemp("conf")
    settings = {
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",  # it's over before more would pay
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": str(conf / "warehouse"),
        "spark.ui.enabled": "false",
    }
    (conf / "spark-defaults.conf").write_text(
        "".join(f"{name} {value}\n" for name, value in settings.items())
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_CONF_DIR", str(conf))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        with spark_session("local[2]") as opened:
            yield opened


@pytest.fixture(scope="module")
def bundle() -> Path:
    """The released one."""
    store = BundleStore(ROOT / "models" / "bundles")
    return store.path(store.current())


@pytest.fixture
def days(bundle: Path, tmp_path: Path) -> Path:
    """A log of two partitions, a fifth of whose rows is one user's."""
    vocabulary, rng, rows = open_bundle(bundle).vocabulary, np.random.default_rng(1), 2_000
    degrees = vocabulary.fields["profile.user_active_degree"]
    user = np.where(rng.random(rows) < 0.2, 0, rng.integers(100, size=rows))
    log = pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in user],
            "video_id": [f"v{number}" for number in rng.integers(50, size=rows)],
            "timestamp_ms": 1_700_000_000_000 + np.arange(rows) * 1000,
            "watch_time_s": rng.exponential(9.0, rows),
            "duration_s": rng.uniform(5.0, 60.0, rows),
            **{
                name: rng.random(rows) < 0.1
                for name in ("like", "follow", "comment", "forward", "hate", "profile_enter")
            },
            "tab": pl.Series([None] * rows, dtype=pl.String),
            "author_id": pl.Series([None] * rows, dtype=pl.String),
            "tag": rng.choice([*vocabulary.fields["tag"][:5], "new"], rows),
        }
    )
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(90)], "user_active_degree": (degrees * 90)[:90]})
    for name, (start, end) in {"2026-05-01": (0, 700), "2026-05-02": (700, rows)}.items():
        (tmp_path / "log" / name).mkdir(parents=True)
        log[start:end].write_parquet(tmp_path / "log" / name / "interactions.parquet")
        users.write_parquet(tmp_path / "log" / name / "users.parquet")
    return tmp_path / "log"


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
def test_a_log_is_prepared_as_on_one_machine_and_written_once(spark: Any, tmp_path: Path) -> None:
    table = [
        row(f"u{n % 7}", f"v{n % 5}", 60 * n, play_seconds=float(n % 9), shares=n % 3) for n in range(600)
    ]
    again = [r | {"liked": 1, "play_seconds": 99.0, "shares": 5} for r in table[10:40]]
    wrong = [
        row(None, "v1", 1, shares=0),
        row("u1", "v1", 2, play_seconds=-1.0, shares=0),
        row("u1", "v2", 3, length=None, shares=0),
    ]
    log, videos = (
        tmp_path / "log",
        write(tmp_path / "videos.csv", [{"vid": "v2", "length": 30.0, "quality": 0.5}]),
    )
    log.mkdir()
    for number, rows in enumerate((table + again, table[:20] + wrong)):
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(log / f"{number}.parquet")
    changes = ("numbers.shares=shares", "videos.quality=quality:number")
    one = prepare("own", log, tmp_path / "one", own=OwnLog(videos, changes=changes), progress=False)
    own = OwnLog(videos, mapping=one.out / "mapping.json")
    ours = prepare_own(spark, str(log), tmp_path / "ours", own)
    assert ours.info == one.info
    assert ours.info.rows.dropped == {
        "no_user_id": 1,
        "negative_watch_time": 1,
        "exact_duplicate": 20,
        "logged_twice": 30,
    }
    found, expected = load(ours.out).tables, load(one.out).tables
    assert_frame_equal(found.interactions, expected.interactions)
    assert_frame_equal(found.videos, expected.videos)

    before = files_of(ours.out)
    assert prepare_own(spark, str(log), ours.out, own).files == ()
    assert files_of(ours.out).items() <= before.items()


@pytest.mark.slow
def test_labels_are_those_of_one_machine_and_written_once(
    spark: Any, bundle: Path, days: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    found = label_log_by_spark(spark, bundle, str(days), str(out), labels=LABELS)
    assert found == (2_000, LABELS, bundle.name)
    for day in days.iterdir():
        label_log(open_bundle(bundle), day, tmp_path / f"{day.name}.parquet", labels=LABELS)
        ours = pl.read_parquet(out / f"partition={day.name}" / "*.parquet").drop("partition", strict=False)
        # A learned label's last bit depends on how many rows a matrix product has.
        assert_frame_equal(
            ours.sort(KEYS), pl.read_parquet(tmp_path / f"{day.name}.parquet").sort(KEYS), abs_tol=1e-5
        )

    before = files_of(out)
    assert label_log_by_spark(spark, bundle, str(days), str(out), labels=LABELS).rows == 0
    assert files_of(out) == before

    changed = days / "2026-05-02" / "interactions.parquet"
    pl.read_parquet(changed).with_columns(watch_time_s=-1.0).write_parquet(changed)
    with pytest.raises(BadInput, match="partition 2026-05-02, row 1: `watch_time_s` is negative"):
        label_log_by_spark(spark, bundle, str(days), str(out), labels=LABELS)


def test_a_missing_extra_or_java_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    with (
        pytest.raises(BadInput, match=r"needs the extra `spark` .*pip install 'reelrank\[spark\]'"),
        spark_session(),
    ):
        pass
    monkeypatch.undo()
    pytest.importorskip("pyspark", reason="the extra `spark` is not installed")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(BadInput, match="needs Java 17 or later"), spark_session():
        pass
