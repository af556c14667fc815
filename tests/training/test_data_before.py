"""What users did before the log begins becomes a feature of theirs, and never knows a row of the log."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from training.data.readers._kuairand_before import NUMBERS_BEFORE, SHRINKAGE, before_the_log

LOG = pl.DataFrame({"user_id": ["1", "1", "2"], "timestamp_ms": [1000, 2000, 1500]})


def write(folder: Path, last_ms: dict[int, int]) -> None:
    """User 1 saw four videos (two long views, one unknown), user 2 one, liked."""
    pl.DataFrame({"user_id": list(last_ms), "last_time_ms": list(last_ms.values())}).write_parquet(
        folder / "user_history_to_4_24_pure.parquet"
    )
    pl.DataFrame(
        {
            "user_id": [1, 1, 1, 1, 2],
            "history_len": [70, 70, 70, 70, 1],
            "long_view": [1, 1, 0, None, 0],
            "is_like": [0, 0, 0, 0, 1],
        }
    ).write_parquet(folder / "history_exposures_to_4_24_pure.parquet")


def test_shares_are_shrunk_to_those_of_all_rows_and_the_unknown_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, {1: 900, 2: 900})
    found = before_the_log(tmp_path, LOG)
    assert found is not None
    assert found.columns == ["user_id", *NUMBERS_BEFORE]
    one, two = found.rows()
    assert one == pytest.approx(
        ("1", 70, (2 + SHRINKAGE * 0.5) / (3 + SHRINKAGE), SHRINKAGE * 0.2 / (4 + SHRINKAGE))
    )
    assert two == pytest.approx(
        ("2", 1, SHRINKAGE * 0.5 / (1 + SHRINKAGE), (1 + SHRINKAGE * 0.2) / (1 + SHRINKAGE))
    )


def test_of_a_user_whose_earlier_exposures_reach_into_the_log_nothing_is_known(tmp_path: Path) -> None:
    write(tmp_path, {1: 1000, 2: 900})
    found = before_the_log(tmp_path, LOG)
    assert found is not None
    assert found["user_id"].to_list() == ["2"]


def test_without_the_moment_of_the_last_one_nothing_is_known_of_any_user(tmp_path: Path) -> None:
    write(tmp_path, {1: 900})
    (tmp_path / "user_history_to_4_24_pure.parquet").unlink()
    assert before_the_log(tmp_path, LOG) is None
