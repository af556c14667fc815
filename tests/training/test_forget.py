"""`forget`: what a ledger names leaves tables, vocabulary and weights of a run, or the run stays as it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from models.ledger import Entry
from models.manifest import Manifest, Training
from models.store import BundleStore
from models.vocabulary import Vocabulary
from tests.models import tiny
from tests.training._experiments import refusal, run_command, write_json, write_log
from training.data import Dataset, Forgotten, load, without
from training.labels import LabelMakers, fit_heuristics
from training.lda import LDA
from training.rankers import Ranker
from training.train import run_folder
from training.train.fit import cut_windows, evaluation_boundaries
from training.train.forget import Fits, WithoutRows, forget, rows_by_field
from training.train.run_config import new_networks
from training.train.verification import LARGEST_LOSS, taken_out, too_bad

pytestmark = pytest.mark.slow
FORGOTTEN_BEFORE, FORGOTTEN_AT = 1_800_000_000_000, 1_900_000_000_000


BRIEF = {
    "closed_form": {"steps": 2, "redraws": 1, "watch_knots": 5, "duration_knots": 3},
    "lda": {"anchors": {"epochs": 2, "sequences": 64}},
    "loop": {"epochs": 1},
}
"""Changes of the smoke recipe: what is forgotten does not depend on how well was fitted."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DATA of a small simulated log that has forgotten before."""
    folder = tmp_path_factory.mktemp("forget")
    data = write_log(folder, users=60, videos=80, exposures=2000, days=8)
    info = json.loads((data / "dataset.json").read_text())
    return write_json(data / "dataset.json", info | {"forgotten_until_ms": FORGOTTEN_BEFORE}).parent


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    """A run that was fitted on it."""
    out, config = data.with_name("run"), write_json(data.with_name("brief.json"), BRIEF)
    run_command("fit", "smoke", "--data", data, "--out", out, "--config", config)
    return out


def users_of(data: Path, count: int) -> list[str]:
    """Users with few exposures, so that several are still few rows."""
    counts = load(data).log.group_by("user_id").len().sort("len", "user_id")
    return counts["user_id"].head(count).to_list()


def ledger(path: Path, *ids: Mapping[str, str | int]) -> Path:
    path.write_text("".join(json.dumps({**named, "forgotten_at_ms": FORGOTTEN_AT}) + "\n" for named in ids))
    return path


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def write_version(
    makers: LabelMakers, ranker: Ranker, vocabulary: Vocabulary, to: Path, *, training: Training, **_: object
) -> Path:
    """Write a version of small graphs instead of those of a ranker, which take many seconds to trace."""
    folder = to / "20260101-00000000"
    tiny.rewrite(folder, tiny.write(folder, folder.name).model_copy(update={"training": training}))
    return folder


def fits_of(run: Path) -> tuple[run_folder.Saved, Fits]:
    saved = run_folder.read(run, "evaluation")
    return saved, Fits(saved.fitted, run_folder.read(run, "release").fitted)


def without_entry(dataset: Dataset, entry: Entry) -> Dataset:
    return without(dataset, Forgotten((entry,), entry.forgotten_at_ms))


def corrected(run: Path, dataset: Dataset, remaining: Dataset) -> WithoutRows:
    saved, fits = fits_of(run)
    return forget(dataset, remaining, saved.config, fits, lambda stage, share: None)


@pytest.fixture(scope="module")
def one_user(run: Path, data: Path) -> tuple[Dataset, WithoutRows]:
    """What remains without a user, and the run without them."""
    dataset = load(data)
    entry = Entry(user_id=users_of(data, 1)[0], forgotten_at_ms=1)
    remaining = without_entry(dataset, entry)
    return remaining, corrected(run, dataset, remaining)


def test_tables_equal_a_rebuild_from_the_remaining_rows(
    one_user: tuple[Dataset, WithoutRows], run: Path, data: Path
) -> None:
    remaining, found = one_user
    saved = run_folder.read(run, "evaluation")
    boundaries = evaluation_boundaries(load(data), saved.config)
    windows = cut_windows(remaining, saved.config, boundaries)
    known = windows.log.take(windows.known)
    assert found.fits.evaluation.vocabulary.fields == windows.vocabulary.fields
    profile = remaining.profile_numbers, remaining.profile_categories
    _, anew = new_networks(saved.config, windows.vocabulary, *profile, remaining.signals)
    anew.scale.fit(known.watch_time_s)
    assert isinstance(anew.head, LDA)
    anew.head.fit_tables(known, seed=0)
    anew.encoder.fit_tables(windows.log, windows.known, remaining.censored(windows.vocabulary))
    ranker = found.fits.evaluation.ranker
    tables, wanted = dict(ranker.named_buffers()), dict(anew.named_buffers())
    rebuilt = [name for name in wanted if name.startswith(("scale.", "head.groups", "head.rank_loss"))]
    rebuilt += [name for name in wanted if name.startswith("encoder.tables.statistics.table")]
    rebuilt += ["head.scale", "encoder.author_tag", "encoder.typical_duration_s"]
    for name in rebuilt:
        torch.testing.assert_close(tables[name], wanted[name], rtol=1e-6, atol=1e-6)
    makers = list(found.fits.evaluation.label_makers)[1:]
    for maker, fresh in zip(makers, fit_heuristics(known)[0], strict=True):
        for name, table in fresh.state_dict().items():
            torch.testing.assert_close(maker.state_dict()[name], table, rtol=1e-6, atol=1e-6)


def test_anchors_keep_their_parts_and_count_the_remaining_rows(run: Path, data: Path) -> None:
    """Around the same anchors, tables of the same rows are the same, and shares are those of the rows."""
    saved, fits = fits_of(run)
    dataset = load(data)
    windows = cut_windows(dataset, saved.config, evaluation_boundaries(dataset, saved.config))
    head = fits.evaluation.ranker.head
    assert isinstance(head, LDA)
    before = {name: table.clone() for name, table in head.named_buffers()}
    head.refit_tables(windows.log.take(windows.known))
    for name, table in head.named_buffers():
        torch.testing.assert_close(table, before[name], rtol=1e-5, atol=1e-5)
    some = windows.log.take(windows.known[::3])
    head.refit_tables(some)
    torch.testing.assert_close(head.anchors.share.sum(1), torch.ones(len(head.anchors.share)))
    assert not torch.equal(head.anchors.share, before["anchors.share"])


def test_co_visitation_of_all_rows_is_what_it_was_and_of_fewer_stays_near(
    one_user: tuple[Dataset, WithoutRows], run: Path
) -> None:
    _, found = one_user
    before, after = found.before, found.after
    fitted = run_folder.read(run, "evaluation").fitted
    former = fitted.ranker.encoder.co_visitation
    rows = rows_by_field(fitted.vocabulary, after.vocabulary)["video_id"]
    shrunk = found.fits.evaluation.ranker.encoder.co_visitation.vector
    change = float((shrunk - former.vector[rows]).norm() / former.vector.norm())
    assert 0 < change < 0.2
    same = type(former)(len(former.vector))
    every = np.arange(len(former.vector))
    same.refit(before.log, before.known, former, before.log, before.known, every)
    assert float((same.vector - former.vector).norm() / former.vector.norm()) < 0.05


def test_weights_of_layers_and_of_ids_that_remain_are_bit_identical(
    one_user: tuple[Dataset, WithoutRows], run: Path
) -> None:
    _, found = one_user
    former, fit = run_folder.read(run, "release").fitted, found.fits.release
    rows = rows_by_field(former.vocabulary, fit.vocabulary)
    of_table = {"video": "video_id", "author": "author_id", "tag": "tag", "tab": "tab"}
    taken = {f"encoder.tables.{name}.weight": rows[field] for name, field in of_table.items()}
    for name, parameter in fit.ranker.named_parameters():
        before = former.ranker.get_parameter(name)
        if name != "encoder.tables.category.weight":
            assert torch.equal(parameter, before[taken[name]] if name in taken else before), name


def test_a_forgotten_author_and_their_videos_leave_the_vocabulary(run: Path, data: Path) -> None:
    dataset = load(data)
    author = str(dataset.log["author_id"].value_counts().sort("count", "author_id")["author_id"][0])
    remaining = without_entry(dataset, Entry(author_id=author, forgotten_at_ms=1))
    found = corrected(run, dataset, remaining)
    gone = dataset.log.filter(pl.col("author_id") == author)
    for fit in found.fits:
        assert author not in fit.vocabulary.fields["author_id"]
        assert not set(gone["video_id"]) & set(fit.vocabulary.fields["video_id"])
        assert len(fit.ranker.encoder.tables.video.weight) == fit.vocabulary.size("video_id")
    assert int(taken_out(found.before, remaining).sum()) == len(gone)


def test_the_way_from_a_ledger_to_the_active_bundle_and_the_same_ledger_again(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LARGEST_LOSS, "xauc", 1.0)  # so few early-stop rows are ordered by chance
    monkeypatch.setattr("training.export.run.export", write_version)
    before = digests(run)
    names = ledger(tmp_path / "ledger", *({"user_id": user} for user in users_of(data, 2)))
    out, bundles = tmp_path / "run2", tmp_path / "bundles"
    forgetting = ("forget", "--run", run, "--data", data, "--out", out)
    releasing = ("--to", bundles, "--promote", "--allow-unlearned", "--force")
    printed = run_command(*forgetting, "--ledger", names, *releasing)
    assert "membership_auc" in printed
    store = BundleStore(bundles)
    manifest = Manifest.read(store.path(store.current()))
    made = manifest.training.forgetting
    assert manifest.training.forgotten_until_ms == FORGOTTEN_BEFORE  # weights were fitted with the rows
    assert made is not None
    assert (made.method, made.lines) == ("tables", 2)
    assert made.weights == before["release.pt"]
    assert manifest.training.rows == run_folder.read(run, "release").training.rows - made.rows
    assert {"mae_s_before", "mae_s_after", "moved_logit"} <= set(made.figures)
    assert digests(run) == before
    # the same ledger again, of the former run and of the new one, changes nothing
    whole = digests(out), store.versions()
    for either in (run, out):
        again = ("forget", "--run", either, "--data", data, "--out", out, "--ledger", names)
        assert "nothing to forget" in run_command(*again, *releasing)
        assert (digests(out), store.versions()) == whole
    # rows are taken out of what `fit` wrote
    more = ledger(tmp_path / "more", {"user_id": users_of(data, 3)[2]})
    third = ("--run", out, "--data", data, "--out", tmp_path / "run3")
    assert "fitted on more rows than it knows of" in refusal(
        "forget", *third, "--ledger", names, "--ledger", more
    )


def test_a_ledger_of_strangers_moves_only_how_far_the_ledger_is_known(
    run: Path, data: Path, tmp_path: Path
) -> None:
    names = ledger(tmp_path / "ledger", {"user_id": "a stranger"})
    out = tmp_path / "out"
    run_command("forget", "--run", run, "--data", data, "--out", out, "--ledger", names)
    for name in ("evaluation.pt", "release.pt"):
        former, state = (torch.load(folder / name, weights_only=True) for folder in (run, out))
        for part in ("label_makers", "ranker"):
            torch.testing.assert_close(state[part], former[part], rtol=0, atol=0, equal_nan=True)
    assert run_folder.read(out, "release").training.forgotten_until_ms == FORGOTTEN_AT


def test_a_result_that_predicts_worse_is_refused_and_how_long_a_fit_takes_is_said(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("forget", "--run", run, "--data", data, "--out", tmp_path / "out")
    monkeypatch.setitem(LARGEST_LOSS, "mae_s", -1.0)
    few = ledger(tmp_path / "few", {"user_id": users_of(data, 1)[0]})
    assert "--retrain, which takes" in refusal(*args, "--ledger", few)
    assert not (tmp_path / "out").exists()


def test_predictions_that_became_worse_are_refused() -> None:
    figures = {"mae_s_before": 10.0, "mae_s_after": 10.05, "xauc_before": 0.7, "xauc_after": 0.699}
    assert too_bad(figures) is None
    assert "rises from 10.00 to 10.20 s" in str(too_bad(figures | {"mae_s_after": 10.2}))
    assert "falls from 0.7000 to 0.6900" in str(too_bad(figures | {"xauc_after": 0.69}))


@pytest.mark.parametrize("nth", [0, 1])
def test_a_stop_while_the_new_run_is_written_leaves_the_old_one_alone(
    nth: int, run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, save = digests(run), torch.save
    written: list[Path] = []

    def stopped(state: object, path: Path) -> None:
        if len(written) == nth:
            raise KeyboardInterrupt
        written.append(path)
        save(state, path)

    monkeypatch.setattr(torch, "save", stopped)
    names = ledger(tmp_path / "ledger", {"user_id": "a stranger"})
    args = ("--run", run, "--data", data, "--out", tmp_path / "out", "--ledger", names)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run_command("forget", *args)
    assert digests(run) == before
    assert [path.name for path in tmp_path.iterdir()] == ["ledger"]
