"""Features of users beside a log of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.training.own_csv import prepared, refusal, rows, write
from training.data.own_log import _guess


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path / "log.csv", rows())


@pytest.fixture
def users(tmp_path: Path) -> Path:
    table = [
        {"uid": f"u{n}", "age": age, "home country": country, "joined": 2020 + n}
        for n, age, country in [(0, 31, "de"), (1, "", "fr"), (2, 7.5, "x" * 300), (9, 1, "de")]
    ]
    return write(tmp_path / "users.csv", table)


def test_numbers_and_categories_become_the_profile(tmp_path: Path, log: Path, users: Path) -> None:
    data, lines = prepared(log, tmp_path / "out", "users.joined=", users=users)
    assert (data.profile_numbers, data.profile_categories) == (("age",), ("home_country",))
    table = data.tables.users
    assert table["age"].to_list() == [31.0, None, 7.5, 1.0]
    assert table["home_country"].to_list() == ["de", "fr", None, "de"]
    shown = "\n".join(" ".join(line.split()) for line in "\n".join(lines).splitlines())
    assert "users.age age a number" in shown
    assert "users.home_country home country text" in shown


def test_they_are_read_as_the_encoder_takes_them(tmp_path: Path, log: Path, users: Path) -> None:
    data, _ = prepared(log, tmp_path / "out", users=users)
    arrays = data.interactions(data.vocabulary())
    np.testing.assert_array_equal(arrays.profile[:, 0], [31, np.nan, 7.5])
    assert data.vocabulary().fields["profile.home_country"] == ["de", "fr"]


def test_a_number_may_be_a_category_and_the_mapping_keeps_it(tmp_path: Path, log: Path, users: Path) -> None:
    changed, _ = prepared(log, tmp_path / "out", "users.joined=joined:id", users=users)
    again, _ = prepared(log, tmp_path / "again", mapping=tmp_path / "out" / "mapping.json", users=users)
    assert changed.profile_categories == again.profile_categories == ("joined", "home_country")
    assert again.tables.users.equals(changed.tables.users)


def test_text_of_many_values_is_no_feature(tmp_path: Path, log: Path) -> None:
    count = _guess.MAX_CATEGORIES + 1
    table = pl.DataFrame({"uid": [f"u{n}" for n in range(count)], "name": [f"n{n}" for n in range(count)]})
    table.write_csv(tmp_path / "many.csv")
    data, _ = prepared(log, tmp_path / "out", users=tmp_path / "many.csv")
    assert data.profile_categories == ()


def test_a_user_listed_twice_has_the_largest_of_each(tmp_path: Path, log: Path) -> None:
    table = [{"uid": "u0", "age": 3, "city": "b"}, {"uid": "u0", "age": 9, "city": "a"}]
    data, _ = prepared(log, tmp_path / "out", users=write(tmp_path / "users.csv", table))
    assert data.tables.users.row(0) == ("u0", 9.0, "b")


def test_a_feature_without_its_column_is_refused(tmp_path: Path, log: Path, users: Path) -> None:
    assert "no column 'born'" in refusal(log, tmp_path / "out", "users.age=born", users=users)
    assert "cannot be in 's'" in refusal(log, tmp_path / "out", "users.age=age:s", users=users)
