"""`python -m training audit`, from a log to a report: every named system is evaluated on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.errors import BadInput
from models.metrics import Confusion, nwtg_at_k
from tests.conftest import ROOT
from tests.training._experiments import (
    assert_pictures,
    read_rows,
    refusal,
    run_command,
    write_json,
    write_log,
)
from training.evaluation.evaluate import open_bundle
from training.experiments.audit import evaluate_system, run_audit
from training.experiments.audit_data import AuditConfig, AuditData, load_audit_data
from training.experiments.engine import partial_path
from training.experiments.ranked_systems import RankedSystem, reference_systems

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "test_days": 2,
    "thin": 40,
    "resamples": 50,
    "probes": 20,
    "sequences": {
        "epochs": 2,
        "learning_rate": 5e-3,
        "sasrec": {"embedding": 4, "blocks": 1, "heads": 2, "feedforward": 8, "length": 20},
    },
    "recommender": {"epochs": 1},
}
CONFIG = AuditConfig.model_validate(SETTINGS)
BUNDLES = ROOT / "models" / "bundles"
PICTURES = {f"{name}.png" for name in ("duration", "duration-ndcg", "popularity", "popularity-ndcg")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log whose users have fans, some of them many."""
    size = {"users": 60, "videos": 120, "exposures": 3000, "days": 6, "duration_log_mean": 4.2}
    folder = write_log(tmp_path_factory.mktemp("audit"), **size)
    users = pl.read_parquet(folder / "users.parquet")
    fans = pl.Series("fans_user_num", [5000 if i % 4 == 0 else i for i in range(len(users))])
    users.with_columns(fans).write_parquet(folder / "users.parquet")
    return folder


@pytest.fixture(scope="module")
def window(data: Path) -> AuditData:
    return load_audit_data(data, CONFIG)


@pytest.fixture(scope="module")
def report(data: Path) -> Path:
    out = data.parent / "report"
    options = (
        "--bundle",
        BUNDLES,
        "--labels",
        "wt,pc,dml_lv_u",
        "--fit",
        "sasrec binary, sasrec ratio,din pcr",
    )
    assert "sasrec ratio" in run_command(*audit(data, out), *options)
    return out


def audit(data: Path, out: Path) -> tuple[str | Path, ...]:
    config = write_json(data.parent / "config.json", SETTINGS)
    return ("audit", "--data", data, "--out", out, "--config", config, "--jobs", "1")


def test_every_named_system_is_a_row_and_the_pictures_are_there(report: Path) -> None:
    rows = read_rows(report, "name")
    version = (BUNDLES / "CURRENT").read_text().strip()
    assert list(rows)[:4] == ["random", "longest", "most shown", f"{version} score"]
    assert list(rows)[-6:] == ["wt", "pc", "dml_lv_u", "sasrec binary", "sasrec ratio", "din pcr"]
    assert_pictures(report, PICTURES | {"users.png"})
    assert not partial_path(report).exists()
    # Of ids that a vocabulary does not know no candidate is similar to another: there is nothing to probe.
    assert "has not seen the window" in rows[f"{version} score"]["says"]
    assert rows[f"{version} score"]["probe"] == {}


def test_the_binary_head_is_evaluated_as_a_classifier_by_pooled_counts(report: Path) -> None:
    rows = read_rows(report, "name")
    users = rows["sasrec binary"]["users"]
    whole = Confusion(**users["whole"]["half"]["counts"])
    parts = [Confusion(**group["half"]["counts"]) for group in users["groups"]]
    assert sum(whole) == users["whole"]["rows"]
    assert whole == parts[0].plus(parts[1])
    assert rows["sasrec ratio"]["users"]["whole"]["mae_s"] > 0
    assert rows["sasrec ratio"]["users"]["whole"]["half"] is None


def test_groups_of_users_recombine_to_the_whole_by_their_counts(window: AuditData) -> None:
    duration = window.rows.duration
    system = RankedSystem("x", "", "encoder", duration, {"seconds": duration * 0.5})
    users = evaluate_system(system, window, CONFIG)["users"]
    whole, groups = users["whole"], users["groups"]
    assert [group["name"] for group in groups] == ["fewer than 1,000 fans", "1,000 fans and more"]
    for figure, count in (("nwtg", "users"), ("ndcg", "relevant_users"), ("mae_s", "rows")):
        assert sum(group[count] for group in groups) == whole[count]
        mean = sum(group[figure] * group[count] for group in groups) / whole[count]
        assert whole[figure] == pytest.approx(mean)
    gain = nwtg_at_k(window.rows.user, duration, window.rows.watched, CONFIG.k)
    assert whole["nwtg"] == pytest.approx(gain.mean)


def test_an_order_by_duration_or_popularity_shows_just_that_bias(window: AuditData) -> None:
    random, longest, popular = (
        evaluate_system(system, window, CONFIG) for system in reference_systems(window, 0)
    )
    for biased, key in ((longest, "duration"), (popular, "popularity")):
        assert biased[key]["distance"] > 3 * random[key]["distance"]
    share, logged = (np.array(longest["duration"][key]) for key in ("share", "logged"))
    assert share[-1] > 1.2 * logged[-1]
    share, logged = (np.array(popular["popularity"][key]) for key in ("share", "logged"))
    assert share[-1] > logged[-1]
    assert share[0] == 0 or share[0] < logged[0]


def test_relevance_comes_from_the_rows_before_the_window(
    data: Path, window: AuditData, tmp_path: Path
) -> None:
    """Rows of the window move no threshold: with an hour more of watch time every row is beyond it."""
    for path in data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    watched, later = pl.col("watch_time_s"), pl.col("timestamp_ms") >= window.boundaries.test_ms
    longer = pl.when(later).then(watched + 3000.0).otherwise(watched)
    log = pl.read_parquet(data / "interactions.parquet").with_columns(longer.alias("watch_time_s"))
    log.write_parquet(tmp_path / "interactions.parquet")
    assert 0.01 < window.rows.relevant.mean() < 0.5
    assert load_audit_data(tmp_path, CONFIG).rows.relevant.all()


@pytest.mark.parametrize("min_count", [1, 30])
def test_rows_of_any_vocabulary_are_found_in_the_log(window: AuditData, min_count: int) -> None:
    """Of which some share the unknown index, and then their order in a millisecond is another."""
    dataset = window.dataset
    log, vocabulary = dataset.log, dataset.vocabulary(None, min_count)
    rows, order = dataset.interactions(vocabulary), window.log_order(vocabulary)
    assert sorted(order.tolist()) == list(range(len(log)))
    np.testing.assert_array_equal(rows.timestamp_ms, log["timestamp_ms"].to_numpy()[order])
    np.testing.assert_array_equal(np.array(rows.user_ids)[rows.user], log["user_id"].to_numpy()[order])
    watched = log["watch_time_s"].cast(pl.Float32).to_numpy()[order]
    np.testing.assert_array_equal(rows.watch_time_s, watched)
    located = window.locate(vocabulary)
    assert (np.diff(located.rows) > 0).all()
    np.testing.assert_array_equal(order[located.rows][located.back], window.log_rows)


def test_weights_that_have_seen_the_window_are_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    data = write_log(tmp_path, users=20, videos=60, exposures=600, days=6, start="2022-04-20")
    bundle, out = open_bundle(BUNDLES), tmp_path / "out"
    with pytest.raises(BadInput, match="has seen the log up to"):
        run_audit(data, out, CONFIG, bundle=bundle, labels=())
    report = run_audit(data, out, CONFIG, bundle=bundle, labels=(), allow_seen=True)
    assert "has SEEN the window" in report["rows"][3]["says"]
    assert report["window"]["user_groups"] is None
    assert "SEEN the window" in (out / "report.md").read_text()


def test_a_run_is_audited_by_its_evaluation_fit(
    smoke_run: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"test_days": 1})
    report = run_audit(synthetic_data, tmp_path / "out", config, runs=[smoke_run], labels=["pc"])
    names = [row["name"] for row in report["rows"]]
    assert set(report["rows"][3]["probe"]) == {"watch_time_s", "score"}
    assert_pictures(tmp_path / "out", PICTURES | {"probe.png"})
    assert names[3:] == [*(f"{smoke_run.name} {n}" for n in ("score", "watch_time", "interest")), "pc"]
    assert "has not seen the window" in report["rows"][3]["says"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "nothing to audit"),
        (("--fit", "dinner"), "'dinner'; there are lda, sasrec binary"),
        (("--bundle", BUNDLES, "--labels", "fame"), "'fame'; there are labelcraft"),
        (("--fit", "din pcr", "--k", "5000"), "no user has more than k = 5000"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    data: Path, tmp_path: Path, options: tuple[str | Path, ...], message: str
) -> None:
    assert message in refusal(*audit(data, tmp_path / "out"), *options)
    assert not (tmp_path / "out").exists()
