"""`python -m training label`: the labels of a whole log, out of core."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from models.errors import BadInput
from tests.conftest import SYNTHETIC, run_command, run_ok
from training.evaluation.evaluate import open_bundle
from training.export.batch_label import label_log

pytestmark = pytest.mark.slow


def test_the_size_of_a_batch_does_not_show_in_the_file(
    smoke_bundles: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(smoke_bundles)
    shares: list[float] = []
    whole = label_log(bundle, synthetic_data, tmp_path / "whole.parquet")
    parts = label_log(
        bundle, synthetic_data, tmp_path / "parts.parquet", batch_rows=999, on_progress=shares.append
    )
    assert whole == parts
    assert whole.labels == bundle.manifest.labels
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    # A learned label's last bit depends on how many rows a matrix product has.
    assert_frame_equal(
        pl.read_parquet(tmp_path / "parts.parquet"), pl.read_parquet(tmp_path / "whole.parquet"), abs_tol=1e-5
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.parquet", "whole.parquet"]


def test_the_file_says_where_it_comes_from(smoke_bundles: Path, synthetic_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    printed = run_ok(
        "label", "--bundle", smoke_bundles, "--data", synthetic_data, "--out", out, "--labels", "pcr"
    )
    note = pl.read_parquet_metadata(out)
    assert note["reelrank.bundle"] == open_bundle(smoke_bundles).manifest.version
    assert note["reelrank.command"].startswith("python -m training label")
    assert f"{SYNTHETIC['exposures']:,} rows" in printed
    assert str(out) in printed


def test_a_log_of_interactions_alone_is_enough(
    smoke_bundles: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "mine"
    data.mkdir()
    shutil.copy(synthetic_data / "interactions.parquet", data)
    made = label_log(open_bundle(smoke_bundles), data, tmp_path / "out.parquet")
    assert made.rows == SYNTHETIC["exposures"]
    # Without users.parquet every row is compared with all rows.
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found["dml_ev_u"].equals(found["dml_ev"].alias("dml_ev_u"))


def test_a_file_that_exists_is_left_alone(smoke_bundles: Path, synthetic_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    out.write_text("mine")
    result = run_command("label", "--bundle", smoke_bundles, "--data", synthetic_data, "--out", out)
    assert result.returncode == 2
    assert "exists already" in result.stderr
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("watch_time_s").mul(-1.0).alias("watch_time_s"), "watch_time_s"),
        (pl.lit("").alias("user_id"), "empty id"),
        (pl.col("like").alias("loved"), None),
    ],
)
def test_a_bad_row_far_down_the_log_leaves_nothing_behind(
    smoke_bundles: Path, synthetic_data: Path, tmp_path: Path, change: pl.Expr, message: str | None
) -> None:
    data = tmp_path / "mine"
    data.mkdir()
    log = pl.read_parquet(synthetic_data / "interactions.parquet")
    bad = pl.int_range(pl.len()) == 3_000
    changed = log.with_columns(
        pl.when(bad)
        .then(change)
        .otherwise(pl.col(change.meta.output_name()))
        .alias(change.meta.output_name())
        if message
        else change
    )
    if message is None:
        changed = changed.drop("like")
    changed.write_parquet(data / "interactions.parquet")
    with pytest.raises(BadInput, match=message or "lacks the column `like`"):
        label_log(open_bundle(smoke_bundles), data, tmp_path / "out.parquet", batch_rows=1_000)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_label_that_the_bundle_does_not_serve_is_named_with_those_it_does(
    smoke_bundles: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"'love'.*labelcraft, wt"):
        label_log(open_bundle(smoke_bundles), synthetic_data, tmp_path / "o", labels=["love"])
