"""Rows, where the reference stands among them, and what is written of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.compare._place import spread_out
from training.compare._report import (
    Measure,
    Row,
    Summary,
    Versus,
    markdown_table,
    over_seeds,
    summary,
    versus,
    write_json,
)
from training.compare._stand import order, sentence, standing


def row(method: str, mean: float, std: float | None = 0.01, difference: float = 0.0, p: float = 0.5) -> Row:
    against = {"nwtg@10": Versus(difference, p, (difference - 1, difference + 1), None)}
    return Row(method, "", None, {"nwtg@10": Summary(mean, std, [mean])}, against, {})


def test_a_summary_is_undefined_where_a_seed_is() -> None:
    assert summary([1.0, 2.0, 3.0]) == Summary(2.0, 1.0, [1.0, 2.0, 3.0])
    assert summary([1.0, None]) == Summary(None, None, [1.0, None])
    assert summary([4.0]) == Summary(4.0, None, [4.0])


def test_users_are_averaged_over_the_seeds_before_they_are_compared() -> None:
    ours = over_seeds([{"x": [1.0, 4.0]}, {"x": [3.0, 4.0]}])
    assert ours["x"].tolist() == [2.0, 4.0]
    measures = {"mean": Measure("x", np.array([1.0, 3.0])), "first": Measure("x", np.array([1.0, 0.0]))}
    measures["nobody"] = Measure("x", np.zeros(2))
    (found,) = versus(ours, [{"x": np.array([1.0, 1.0])}], measures, resamples=50, seed=0)
    assert set(found) == {"mean", "first"}
    assert found["mean"].difference == pytest.approx((1 * 1 + 3 * 3) / 4)
    assert found["mean"].relative_improvement == pytest.approx(2.5)
    assert found["first"].difference == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("difference", "p", "verdict"), [(0.1, 0.01, "leads"), (-0.1, 0.01, "loses"), (0.1, 0.2, "ties")]
)
def test_a_verdict_needs_a_small_p(difference: float, p: float, verdict: str) -> None:
    assert Versus(difference, p, (0.0, 0.0), None).verdict == verdict


def test_standing_counts_places_and_the_gap_in_its_own_deviations() -> None:
    rows = [row("wt", 0.58), row("labelcraft", 0.56, 0.016), row("ef", 0.4)]
    stand = standing(rows, rows[1], "nwtg@10")
    assert (stand.place, stand.of, stand.first) == (2, 3, "wt")
    assert stand.stds == pytest.approx(0.02 / 0.016)
    assert not stand.within
    assert standing(rows, rows[0], "nwtg@10").within
    assert standing([row("wt", 0.57), rows[1]], rows[1], "nwtg@10").within
    assert [r.method for r in order(rows, "nwtg@10")] == ["wt", "labelcraft", "ef"]


def test_among_the_rows_of_the_paper_others_do_not_count() -> None:
    rows = [row("dml_wpr", 0.6), row("wt", 0.5), row("labelcraft", 0.56, 0.016)]
    rows = [replace(r, more={"paper": r.method == "wt"}) for r in rows]
    stand = standing(rows, rows[2], "nwtg@10", "paper")
    assert (stand.place, stand.of, stand.first) == (1, 2, "labelcraft")
    assert "is first of 2; `wt` follows" in sentence(rows, rows[2], stand, "NWTG@10", 2)
    assert standing(rows, rows[2], "nwtg@10").first == "dml_wpr"


def test_the_sentence_says_who_is_first_and_what_the_bootstrap_makes_of_it() -> None:
    rows = [row("wt", 0.58, difference=-0.02, p=0.031), row("labelcraft", 0.56, 0.016)]
    said = sentence(rows, rows[1], standing(rows, rows[1], "nwtg@10"), "NWTG@10", 2)
    assert said.startswith("**NWTG@10**: labelcraft has 0.56 ± 0.02 and is number 2 of 2")
    assert "first is `wt` with 0.58 ± 0.01, a gap of 0.02" in said
    assert "difference is -0.02 (95 %: -1.02 to +0.98, p = 0.031)" in said
    winner = [row("wt", 0.5, difference=0.06, p=0.01), row("labelcraft", 0.56)]
    said = sentence(winner, winner[1], standing(winner, winner[1], "nwtg@10"), "NWTG@10", 2)
    assert "is first of 2; `wt` follows with 0.50 ± 0.01; on the same users" in said


def test_the_json_is_read_back_with_six_digits(tmp_path: Path) -> None:
    report = {"command": "x", "n": 3, "rows": [{"method": "a", "mean": 1 / 3}, {"method": "b"}]}
    write_json(tmp_path / "report.json", report)
    assert json.loads((tmp_path / "report.json").read_text()) == {
        **report,
        "rows": [{"method": "a", "mean": 0.333333}, {"method": "b"}],
    }


def test_a_table_has_a_rule_and_a_line_a_row() -> None:
    assert markdown_table(["a", "b"], [["x", "1"]]) == ["| a | b |", "|---|---:|", "| x | 1 |"]


def test_no_name_covers_another() -> None:
    at = np.random.default_rng(0).uniform(0, [600, 400], size=(30, 2))
    size = np.tile([60.0, 14.0], (30, 1))
    place = spread_out(at, size)
    apart = np.abs(place[:, None] - place[None])
    covered = (apart < size[0] - 1e-9).all(axis=-1) & ~np.eye(30, dtype=bool)
    assert not covered.any()
    assert np.abs(place - at).max() < 150
