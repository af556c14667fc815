"""Own feedback signals of a log: declared, read, checked, and columns of feedback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.signals import Signals
from tests.training.own_csv import prepared, refusal, rows, write
from training.data.own_log import ColumnMapping

DECLARED = Signals(positive=("favorite",), negative=("report",), numbers=("stars",))


def with_signals(tmp_path: Path) -> Path:
    table = [r | {"faved": "yes" if n == 3 else "no", "stars": n % 6} for n, r in enumerate(rows())]
    return write(tmp_path / "log.csv", [r | {"is_reported": int(n == 7)} for n, r in enumerate(table)])


class TestSignals:
    def test_usual_ones_are_guessed_and_others_are_named(self, tmp_path: Path) -> None:
        data, lines = prepared(with_signals(tmp_path), tmp_path / "out", "numbers.stars=stars")
        assert data.signals == DECLARED
        assert data.log["favorite"].arg_true().to_list() == [3]
        assert data.log["report"].arg_true().to_list() == [7]
        assert data.log["stars"].to_list() == [n % 6 for n in range(12)]
        assert "positive.favorite  faved" in "\n".join(lines)

    def test_the_mapping_that_is_written_is_read_again(self, tmp_path: Path) -> None:
        source = with_signals(tmp_path)
        first, _ = prepared(source, tmp_path / "first", "numbers.stars=stars")
        again, _ = prepared(source, tmp_path / "again", mapping=tmp_path / "first" / "mapping.json")
        assert again.signals == DECLARED
        assert again.log.equals(first.log)

    def test_a_guess_can_be_taken_back(self, tmp_path: Path) -> None:
        data, _ = prepared(with_signals(tmp_path), tmp_path / "out", "positive.favorite=,negative.report=")
        assert data.signals == Signals()

    def test_they_are_columns_of_feedback_and_count_as_what_they_say(self, tmp_path: Path) -> None:
        data, _ = prepared(with_signals(tmp_path), tmp_path / "out", "numbers.stars=stars,like=")
        log = data.interactions(data.vocabulary())
        assert log.feedback.shape == (12, 11)
        assert log.feedback[:, 8].sum() == log.explicit.sum() == 1
        assert log.feedback[:, 9].sum() == log.hate.sum() == 1
        assert log.feedback[:, 10].sum() == 30

    def test_a_log_without_a_signal_of_a_bundle_has_none_of_it(self, tmp_path: Path) -> None:
        data, _ = prepared(write(tmp_path / "log.csv", rows()), tmp_path / "out")
        assert not data.interactions(data.vocabulary(), signals=DECLARED).feedback[:, 8:].any()

    def test_repeats_are_merged_as_watch_times_and_flags_are(self, tmp_path: Path) -> None:
        table = [rows()[0] | change for change in ({"fav": 1, "stars": 2}, {"fav": 0, "stars": 5})]
        source = write(tmp_path / "log.csv", [*table, *rows()[1:]])
        data, _ = prepared(source, tmp_path / "out", "numbers.stars=stars")
        assert data.log.row(0, named=True) | {"favorite": True, "stars": 5.0} == data.log.row(0, named=True)

    def test_a_value_that_is_no_amount_is_counted(self, tmp_path: Path) -> None:
        values = ["", "-1", "many", "1e10", *["3"] * 8]
        source = write(tmp_path / "log.csv", [r | {"stars": v} for r, v in zip(rows(), values, strict=True)])
        data, _ = prepared(source, tmp_path / "out", "numbers.stars=stars")
        assert data.info.rows.dropped == {"invalid_stars": 3}
        assert data.log["stars"].to_list() == [0.0, *[3.0] * 8]

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ("positive.long_view=liked", "the name of something else"),
            ("positive.a-b=liked", "no name of a signal"),
            ("neutral.favorite=liked", "no column 'neutral.favorite'"),
            ("positive.stars=liked,numbers.stars=liked", "declared twice"),
            ("numbers.stars=liked:s", "cannot be in 's'"),
        ],
    )
    def test_what_cannot_be_declared_is_refused(self, tmp_path: Path, change: str, why: str) -> None:
        assert why in refusal(write(tmp_path / "log.csv", rows()), tmp_path / "out", change)

    def test_mapping_json_spells_them_by_kind(self) -> None:
        text = json.dumps({"positive": {"favorite": "faved"}, "numbers": {"stars": "stars"}})
        mapping = ColumnMapping.model_validate_json(text)
        assert mapping.signals() == Signals(positive=("favorite",), numbers=("stars",))
