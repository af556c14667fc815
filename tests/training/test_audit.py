"""`python -m training audit`, from a log to a report: whatever is named is judged on the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.errors import BadInput
from models.metrics import Confusion, nwtg_at_k
from tests.conftest import ROOT, cli, done
from training.compare._run import partial_path
from training.compare.audit import AuditConfig, audit
from training.compare.audit._audit import judged
from training.compare.audit._markdown import markdown
from training.compare.audit._subjects import Subject, references
from training.compare.audit._world import AuditWorld, open_audit
from training.data import SyntheticConfig, prepare
from training.evaluation.evaluate import open_bundle

KNOBS: dict[str, Any] = {
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
CONFIG = AuditConfig.model_validate(KNOBS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world whose users have fans, some of them many."""
    folder = tmp_path_factory.mktemp("audit")
    world = SyntheticConfig(users=60, videos=120, exposures=3000, days=6, duration_log_mean=4.2)
    (folder / "world.json").write_text(world.model_dump_json())
    prepare("synthetic", folder / "world.json", folder / "data", progress=False)
    users = pl.read_parquet(folder / "data" / "users.parquet")
    fans = pl.Series("fans_user_num", [5000 if i % 4 == 0 else i for i in range(len(users))])
    users.with_columns(fans).write_parquet(folder / "data" / "users.parquet")
    return folder / "data"


@pytest.fixture(scope="module")
def world(data: Path) -> AuditWorld:
    return open_audit(data, CONFIG)


@pytest.fixture(scope="module")
def report(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    (folder / "knobs.json").write_text(json.dumps(KNOBS))
    said = done(
        *("audit", "--data", data, "--bundle", ROOT / "models" / "bundles", "--labels", "wt,pc,dml_lv_u"),
        *("--fit", "sasrec binary, sasrec ratio,din pcr", "--out", folder / "report"),
        *("--config", folder / "knobs.json", "--jobs", "1"),
    )
    assert "sasrec ratio" in said
    return folder / "report"


def test_everything_named_is_a_row_and_the_pictures_are_there(report: Path) -> None:
    found = json.loads((report / "report.json").read_text())
    names = [row["name"] for row in found["rows"]]
    version = (ROOT / "models" / "bundles" / "CURRENT").read_text().strip()
    assert names[:4] == ["random", "longest", "most shown", f"{version} score"]
    assert names[-6:] == ["wt", "pc", "dml_lv_u", "sasrec binary", "sasrec ratio", "din pcr"]
    text = (report / "report.md").read_text()
    for name in ("duration", "duration-ndcg", "popularity", "popularity-ndcg", "users"):
        assert f"({name}.png)" in text
        assert (report / f"{name}.png").stat().st_size > 5000
    assert not partial_path(report).exists()
    # Of ids that a vocabulary does not know no candidate is similar to another: there is nothing to probe.
    assert "has not seen the window" in found["rows"][3]["says"]
    assert found["rows"][3]["probe"] == {}
    assert "becomes a skip" not in text


def test_the_report_is_made_of_its_figures_alone(report: Path) -> None:
    assert (report / "report.md").read_text() == markdown(json.loads((report / "report.json").read_text()))


def test_the_binary_head_is_judged_as_a_classifier_by_pooled_counts(report: Path) -> None:
    rows = {row["name"]: row for row in json.loads((report / "report.json").read_text())["rows"]}
    users = rows["sasrec binary"]["users"]
    whole = Confusion(**users["whole"]["half"]["counts"])
    parts = [Confusion(**group["half"]["counts"]) for group in users["groups"]]
    assert sum(whole) == users["whole"]["rows"]
    assert whole == parts[0].plus(parts[1])
    assert rows["sasrec ratio"]["users"]["whole"]["mae_s"] > 0
    assert rows["sasrec ratio"]["users"]["whole"]["half"] is None


def test_groups_of_users_recombine_to_the_whole_by_their_counts(world: AuditWorld) -> None:
    subject = Subject("x", "", "encoder", world.duration, seconds=world.duration * 0.5)
    users = judged(subject, world, CONFIG)["users"]
    whole, groups = users["whole"], users["groups"]
    assert [group["name"] for group in groups] == ["fewer than 1,000 fans", "1,000 fans and more"]
    for figure, count in (("nwtg", "users"), ("ndcg", "relevant_users"), ("mae_s", "rows")):
        assert sum(group[count] for group in groups) == whole[count]
        mean = sum(group[figure] * group[count] for group in groups) / whole[count]
        assert whole[figure] == pytest.approx(mean)
    gained = nwtg_at_k(world.user, world.duration, world.watched, CONFIG.k)
    assert whole["nwtg"] == pytest.approx(gained.mean)


def test_the_longest_video_first_is_seen_as_just_that(world: AuditWorld) -> None:
    fair, longest, shown = (judged(of, world, CONFIG) for of in references(world, 0))
    share, logged = (np.array(longest["duration"][key]) for key in ("share", "logged"))
    assert share[-1] > 1.2 * logged[-1]
    assert longest["duration"]["distance"] > 3 * fair["duration"]["distance"]
    assert shown["popularity"]["distance"] > 3 * fair["popularity"]["distance"]
    share, logged = (np.array(shown["popularity"][key]) for key in ("share", "logged"))
    assert share[-1] > logged[-1]
    assert share[0] == 0 or share[0] < logged[0]


def test_relevance_is_read_off_the_rows_before_the_window(data: Path, tmp_path: Path) -> None:
    """What happens in the window moves no bar: with an hour more of watch time every row is beyond it."""
    world = open_audit(data, CONFIG)
    for name in data.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    log = pl.read_parquet(data / "interactions.parquet")
    later = pl.col("timestamp_ms") >= world.at.test_ms
    longer = pl.when(later).then(pl.col("watch_time_s") + 3000.0).otherwise(pl.col("watch_time_s"))
    log.with_columns(longer.alias("watch_time_s")).write_parquet(tmp_path / "interactions.parquet")
    changed = open_audit(tmp_path, CONFIG)
    assert 0.01 < world.relevant.mean() < 0.5
    assert changed.relevant.all()


@pytest.mark.parametrize("min_count", [1, 30])
def test_rows_of_any_vocabulary_find_back_to_the_log(world: AuditWorld, min_count: int) -> None:
    """Of which some share the unknown row, and then their order in a millisecond is another."""
    dataset = world.dataset
    log = dataset.log
    vocabulary = dataset.vocabulary(None, min_count)
    rows, placed = dataset.interactions(vocabulary), world.placed(vocabulary)
    assert sorted(placed.tolist()) == list(range(len(log)))
    np.testing.assert_array_equal(rows.timestamp_ms, log["timestamp_ms"].to_numpy()[placed])
    users = np.array(rows.user_ids)[rows.user]
    np.testing.assert_array_equal(users, log["user_id"].to_numpy()[placed])
    watched = log["watch_time_s"].cast(pl.Float32).to_numpy()[placed]
    np.testing.assert_array_equal(rows.watch_time_s, watched)


def test_weights_that_have_seen_the_window_are_refused_unless_one_says_so(tmp_path: Path) -> None:
    world = SyntheticConfig(users=20, videos=60, exposures=600, days=6, start="2022-04-20")
    (tmp_path / "world.json").write_text(world.model_dump_json())
    prepare("synthetic", tmp_path / "world.json", tmp_path / "data", progress=False)
    bundle = open_bundle(ROOT / "models" / "bundles")
    with pytest.raises(BadInput, match="has seen the log up to"):
        audit(tmp_path / "data", tmp_path / "out", CONFIG, bundle=bundle, labels=())
    found = audit(tmp_path / "data", tmp_path / "out", CONFIG, bundle=bundle, labels=(), allow_seen=True)
    assert "has SEEN the window" in found["rows"][3]["says"]
    assert found["window"]["user_groups"] is None
    assert "does not have the number" in (tmp_path / "out" / "report.md").read_text()


def test_a_run_is_audited_as_it_was_before_its_test_days(
    smoke_run: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"test_days": 1})
    found = audit(synthetic_data, tmp_path / "out", config, runs=[smoke_run], labels=["pc"])
    names = [row["name"] for row in found["rows"]]
    assert set(found["rows"][3]["probe"]) == {"watch_time_s", "score"}
    assert "(probe.png)" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "probe.png").stat().st_size > 5000
    assert names[3:] == [*(f"{smoke_run.name} {n}" for n in ("score", "watch_time", "interest")), "pc"]
    assert "has not seen the window" in found["rows"][3]["says"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to audit"),
        (("--fit", "dinner"), "'dinner'; there are lda, sasrec binary"),
        (("--bundle", ROOT / "models" / "bundles", "--labels", "fame"), "'fame'; there are labelcraft"),
        (("--fit", "din pcr", "--k", "5000"), "nobody has more than k = 5000"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    data: Path, tmp_path: Path, arguments: tuple[str | Path, ...], said: str
) -> None:
    knobs = tmp_path / "knobs.json"
    knobs.write_text(json.dumps(KNOBS))
    result = cli("audit", "--data", data, "--out", tmp_path / "out", "--config", knobs, *arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "folder", sorted((ROOT / "training" / "reports").glob("audit-*")), ids=lambda path: path.name
)
def test_a_committed_report_says_what_its_figures_say(folder: Path) -> None:
    found = json.loads((folder / "report.json").read_text())
    assert (folder / "report.md").read_text() == markdown(found)
    assert not found["commit"].endswith("-dirty")
