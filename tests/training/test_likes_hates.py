"""Likes and hates: what is read of them, and how often a label puts the one above the other."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.arrays import F64
from models.errors import BadInput
from tests.conftest import ROOT
from tests.training._builders import liked_and_hated
from tests.training._experiments import assert_pictures, read_rows, refusal, run_command, write_log
from training.data import LikesHates, read_likes_hates
from training.evaluation.bootstrap import draws
from training.evaluation.fairness import Bootstrap
from training.evaluation.likes_above_hates import HALVES, LikesHatesEvaluator
from training.labels import PCR, labels_of

BUNDLES = ROOT / "models" / "bundles"
COLUMNS = ("user_id", "play_time_ms", "duration_ms", "label")


def written(folder: Path, rows: pl.DataFrame) -> Path:
    rows.write_parquet(folder / "rows.parquet")
    return folder


def read(folder: Path, rows: pl.DataFrame) -> LikesHates:
    return read_likes_hates(written(folder, rows))


def auc_by_hand(score: F64, liked: F64) -> float | None:
    pairs = [(a > b) + (a == b) / 2 for a, b in product(score[liked > 0], score[liked == 0])]
    return float(np.mean(pairs)) if pairs else None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop("label"), "rows.parquet lacks the column `label`; it has user_id"),
        (lambda rows: rows.with_columns(label=pl.lit(1)), "only likes with a duration"),
        (lambda rows: rows.with_columns(label=pl.lit(0)), "only hates with a duration"),
        (lambda rows: rows.with_columns(duration_ms=pl.lit(0)), "no rows with a duration"),
        (lambda rows: rows.clear(), "no rows with a duration"),
        (lambda rows: rows.with_columns(label=pl.lit(2)), "must be 1 for a like or 0 for a hate"),
        (lambda rows: rows.with_columns(user_id=pl.col("label")), "none of the 2 users has both"),
        (lambda rows: rows.with_columns(user_id=pl.lit(None)), "`user_id` is empty"),
        (lambda rows: rows.with_columns(play_time_ms=-pl.col("play_time_ms")), "is negative"),
        (lambda rows: rows.with_columns(pl.col("play_time_ms", "duration_ms") / 1000), "looks like seconds"),
        (lambda rows: rows.with_columns(pl.col("duration_ms") * 100), "looks like microseconds"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_its_name(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(tmp_path, change(liked_and_hated()))


def test_a_folder_without_files_is_told_which_columns_it_needs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=", ".join(COLUMNS)):
        read_likes_hates(tmp_path)


def test_rows_without_a_duration_are_left_out_and_the_others_have_no_flag(tmp_path: Path) -> None:
    rows = liked_and_hated().with_columns(
        duration_ms=pl.when(pl.int_range(pl.len()) < 7).then(None).otherwise(pl.col("duration_ms"))
    )
    found = read(tmp_path, rows)
    assert (len(found.liked), found.dropped) == (393, 7)
    assert not found.log.feedback[:, 2:].any()
    expected = rows[7:].sort(pl.col("user_id").cast(pl.String), maintain_order=True)
    np.testing.assert_allclose(found.log.watch_time_s, expected["play_time_ms"] / 1000, rtol=1e-6)
    np.testing.assert_allclose(found.log.duration_s, expected["duration_ms"] / 1000, rtol=1e-6)
    assert found.liked.tolist() == (expected["label"] == 1).to_list()


def test_a_user_is_in_one_half_and_stays_there_when_others_come(tmp_path: Path) -> None:
    def users(half: LikesHates) -> set[str]:
        return {half.log.user_ids[user] for user in half.log.user}

    few = [users(half) for half in read(tmp_path, liked_and_hated()).halves()]
    many = [users(half) for half in read(tmp_path, liked_and_hated(rows=4000, users=200)).halves()]
    assert not few[0] & few[1]
    assert few[0] | few[1] == set(map(str, range(20)))
    assert few[0] < many[0]
    assert few[1] < many[1]
    assert 80 < len(many[0]) < 120


def test_a_half_without_hates_is_refused(tmp_path: Path) -> None:
    rows = read(tmp_path, liked_and_hated())
    held_out = {rows.log.user_ids[user] for user in rows.halves()[1].log.user}
    liked = pl.col("user_id").cast(pl.String).is_in(held_out) | (pl.col("label") == 1)
    with pytest.raises(BadInput, match="only likes"):
        read(tmp_path, liked_and_hated().with_columns(label=liked.cast(pl.Int64))).halves()


def test_the_auc_is_that_of_counting_all_pairs_by_hand(tmp_path: Path) -> None:
    rows = read(tmp_path, liked_and_hated(rows=150, users=12))
    score, share = np.round(rows.log.watch_time_s, -1), labels_of(PCR(), rows.log)  # rounded: with ties
    found = LikesHatesEvaluator(rows, share, Bootstrap(20, 0)).figures(score)
    for name, half in zip(HALVES, (rows, *rows.halves()), strict=True):
        inside = np.isin(rows.log.user, half.log.user)
        s, y, user = score[inside].astype(np.float64), rows.liked[inside].astype(float), rows.log.user[inside]
        own = [auc_by_hand(s[user == u], y[user == u]) for u in np.unique(user)]
        assert found[name]["auc"] == pytest.approx(auc_by_hand(s, y))
        assert found[name]["user_auc"] == pytest.approx(np.mean([auc for auc in own if auc is not None]))
        reference = auc_by_hand(share[inside].astype(np.float64), y)
        assert reference is not None
        assert found[name]["lead"] == pytest.approx(found[name]["auc"] - reference)
        for figure in ("auc", "user_auc", "lead"):
            low, high = found[name][f"{figure}_ci"]
            assert low < found[name][figure] < high


def test_intervals_are_those_of_whole_users_drawn_again(tmp_path: Path) -> None:
    """A resample with a user twice has the user's rows twice, and pairs between the two copies."""
    rows = read(tmp_path, liked_and_hated(rows=120, users=6))
    score = rows.log.watch_time_s.astype(np.float64)
    evaluator = LikesHatesEvaluator(rows, score, Bootstrap(1, 3))
    count = next(draws(6, 1, np.random.default_rng(3)))[0]
    found = evaluator.figures(score)["whole"]["auc_ci"]
    again = np.concatenate([np.flatnonzero(rows.log.user == u) for u in range(6) for _ in range(count[u])])
    assert found == pytest.approx([auc_by_hand(score[again], rows.liked[again].astype(float))] * 2)


def test_the_audit_has_a_row_of_each_label_and_rule_and_says_what_is_left_out(tmp_path: Path) -> None:
    folder, out = written(tmp_path, liked_and_hated()), tmp_path / "report"
    printed = run_command("audit", "--likes-hates", folder, "--bundle", BUNDLES, "--out", out)
    rows = read_rows(out, "name")
    version = (BUNDLES / "CURRENT").read_text().strip()
    assert next(iter(rows)) == f"{version} labelcraft"
    assert {"wt", "pcr", "d2q", "PCR + 2WT", "shortest"} <= set(rows)
    assert "flags alone" in rows["ef"]["refused"] or "explicit" in rows["ef"]["refused"]
    assert rows["pcr"]["held_out"]["auc"] > rows["wt"]["held_out"]["auc"] > 0.5
    assert rows["pcr"]["held_out"]["lead_ci"] == [0.0, 0.0]
    assert f"{rows['pcr']['whole']['auc']:.4f}" in printed
    text = (out / "report.md").read_text()
    assert "read off these rows" in text
    assert all(f"`{name}`" in text for name in rows)


def test_an_audit_of_likes_and_hates_refuses_what_belongs_to_one_of_a_log(tmp_path: Path) -> None:
    folder = written(tmp_path, liked_and_hated())
    audit = ("audit", "--out", tmp_path / "report")
    assert "--data" in refusal(*audit)
    assert "leave them out" in refusal(*audit, "--likes-hates", folder, "--fit", "lda")
    for option in (("--k", 3), ("--test-days", 1), ("--all-tabs",)):
        assert "as --data, or leave them out" in refusal(*audit, "--likes-hates", folder, *map(str, option))


def test_with_a_log_the_audit_has_the_composite_of_the_slates_that_its_options_say(tmp_path: Path) -> None:
    data = write_log(tmp_path, users=60, videos=100, exposures=2400, days=8)
    folder, out = tmp_path / "rows", tmp_path / "report"
    folder.mkdir()
    written(folder, liked_and_hated())
    options = ("--data", data, "--bundle", BUNDLES, "--k", "3", "--test-days", "1", "--all-tabs")
    printed = run_command("audit", "--likes-hates", folder, *options, "--out", out)
    report, rows = json.loads((out / "report.json").read_text()), read_rows(out, "name")
    assert len(set(report["slates"]["days"])) == 1
    front = [row for row in rows.values() if row["front"]]
    assert front
    for row in rows.values():
        goals = (row["composite"], row.get("held_out", {}).get("auc"))
        if row["front"] or None in goals:
            continue
        assert any(o["composite"] >= goals[0] and o["held_out"]["auc"] >= goals[1] for o in front)
    assert rows["ef"]["composite"] is None  # it is refused
    assert f"{rows['pcr']['composite']:.4f}" in printed
    assert "composite@3" in printed
    assert_pictures(out, {"front.png"})
