"""SASRec4SV's model without the notebook's defects, and that it learns the labels `label` wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from torch import Tensor

from models.errors import BadInput
from tests.training._builders import watch_log
from training.data import Boundaries, Interactions, load, split_by_time
from training.encoders import SASRec, SASRecConfig, SequenceInputs
from training.evaluation.evaluate import open_bundle
from training.export.batch_label import label_log
from training.recommender import SequencesConfig, fit_sequences
from training.recommender._sequences import sequence_loss, sequences

TINY = SASRecConfig(embedding=4, blocks=2, heads=2, feedforward=16, dropout=0.0, length=12)


def model(head: str = "binary") -> SASRec:
    torch.manual_seed(0)
    made = SASRec(users=4, videos=20, authors=9, config=TINY.model_copy(update={"head": head})).eval()
    torch.nn.init.normal_(made.position)
    return made


def inputs(length: int = 8) -> SequenceInputs:
    g = torch.Generator().manual_seed(1)
    draw = [torch.randint(1, end, (3, length), generator=g) for end in (20, 9)]
    feedback = torch.randint(0, 6, (3, length), generator=g)
    moment = torch.arange(length).expand(3, -1)
    return SequenceInputs(torch.tensor([1, 2, 3]), draw[0], draw[1], feedback, moment)


def changed(x: SequenceInputs, column: str, step: int) -> SequenceInputs:
    values: Tensor = getattr(x, column).clone()
    values[:, step] = values[:, step] % 5 + 1
    assert bool((values[:, step] != getattr(x, column)[:, step]).any())
    return x._replace(**{column: values})


@pytest.mark.parametrize("column", ["video", "author", "feedback"])
def test_what_happens_at_a_position_changes_nothing_before_it(column: str) -> None:
    with torch.no_grad():
        before, after = model()(inputs()), model()(changed(inputs(), column, 5))
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=0)
    assert float((after[:, 6:] - before[:, 6:]).abs().min(1).values.max()) > 0


def test_a_position_does_not_see_its_own_feedback_and_sees_its_own_video() -> None:
    with torch.no_grad():
        before = model()(inputs())
        torch.testing.assert_close(
            model()(changed(inputs(), "feedback", 5))[:, 5], before[:, 5], rtol=0, atol=0
        )
        assert float((model()(changed(inputs(), "video", 5))[:, 5] - before[:, 5]).abs().max()) > 1e-4


@pytest.mark.parametrize("pads", [1, 4])
def test_padding_in_front_changes_nothing(pads: int) -> None:
    x = inputs()
    fill = {"video": 0, "author": 0, "feedback": 0, "moment": -1}
    padded = x._replace(
        **{
            name: torch.nn.functional.pad(getattr(x, name), (pads, 0), value=value)
            for name, value in fill.items()
        }
    )
    with torch.no_grad():
        torch.testing.assert_close(model()(padded)[:, pads:], model()(x), rtol=0, atol=1e-6)


def test_what_padding_holds_changes_nothing() -> None:
    x = inputs()
    columns = {name: getattr(x, name).clone() for name in ("video", "moment", "author", "feedback")}
    columns["video"][:, :3], columns["moment"][:, :3] = 0, -1
    with torch.no_grad():
        before = model()(x._replace(**columns))
        columns["author"][:, :3], columns["feedback"][:, :3] = 8, 5
        torch.testing.assert_close(model()(x._replace(**columns))[:, 3:], before[:, 3:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("column", ["video", "author", "feedback"])
def test_positions_of_one_moment_do_not_see_each_other(column: str) -> None:
    x = inputs()._replace(moment=torch.tensor([0, 1, 2, 3, 3, 3, 4, 5]).expand(3, -1))
    with torch.no_grad():
        before, after = model()(x), model()(changed(x, column, 4))
    torch.testing.assert_close(after[:, [3, 5]], before[:, [3, 5]], rtol=0, atol=0)
    later = (after[:, 6:] - before[:, 6:]).abs().max()
    # Of several at one moment the last one's feedback is read after it.
    assert (float(later) > 1e-4) == (column != "feedback")


def test_rows_of_one_millisecond_are_one_moment() -> None:
    log = watch_log([1.0] * 4, [10.0] * 4)
    tied = replace(log, timestamp_ms=log.timestamp_ms[[0, 1, 1, 3]])
    assert sequences(tied, np.arange(4), 12).inputs.moment.tolist() == [[0, 1, 1, 2]]


def test_padding_has_no_part_in_the_loss() -> None:
    real = torch.tensor([[False, True, True]])
    out, label = torch.tensor([[9.0, 0.5, -0.5]]), torch.tensor([[0.0, 1.0, 0.0]])
    other = torch.tensor([[-9.0, 0.5, -0.5]])
    assert float(sequence_loss(out, label, real, "binary")) == float(
        sequence_loss(other, label, real, "binary")
    )


def test_a_ratio_is_never_negative_and_may_exceed_one() -> None:
    with torch.no_grad():
        made = model("ratio")
        assert float(made(inputs()).min()) >= 0
        made.out.bias.fill_(3.0)
        assert float(made(inputs()).max()) > 1


def test_the_newest_positions_are_kept() -> None:
    log = watch_log([float(i) for i in range(30)], [10.0] * 30)
    kept = sequences(log, np.arange(30, dtype=np.int64), 12)
    assert kept.rows.tolist() == [list(range(18, 30))]
    with pytest.raises(ValueError, match="keep the newest"):
        model()(inputs(13))


def test_a_ratio_between_two_whole_ones_is_what_is_learned() -> None:
    """The notebook rounds ratios down to integers: there 0.6 is 0, and 1.7 is 1."""
    log = watch_log([6.0, 17.0] * 20, [10.0] * 40)
    rows = np.arange(40, dtype=np.int64)
    tiny = TINY.model_copy(update={"head": "ratio", "length": 40})
    config = SequencesConfig(sasrec=tiny, epochs=150, learning_rate=2e-2, weight_decay=0.0)
    fitted = fit_sequences(log, rows, log.watch_time_s / log.duration_s, config)
    assert np.abs(fitted.predict(rows) - log.watch_time_s / log.duration_s).mean() < 0.2


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    """The rows to stop by say the opposite of those learned from: every epoch makes it worse."""
    log = watch_log([1.0] * 40, [10.0] * 40)
    train, stop = np.arange(30, dtype=np.int64), np.arange(30, 40, dtype=np.int64)
    label = (np.arange(40) < 30).astype(np.float32)
    tiny = TINY.model_copy(update={"length": 40})
    config = SequencesConfig(sasrec=tiny, epochs=30, patience=2, learning_rate=1e-2)
    fitted = fit_sequences(log, train, label, config, stop=stop)
    assert fitted.best_epoch == 0
    assert len(fitted.losses) == len(fitted.stop_losses) == 3
    once = fit_sequences(log, train, label, config.model_copy(update={"epochs": 1}))
    np.testing.assert_array_equal(fitted.predict(stop), once.predict(stop))


def test_every_row_of_a_longer_history_is_predicted_once() -> None:
    log = watch_log([1.0] * 30, [10.0] * 30)
    rows = np.arange(30, dtype=np.int64)
    config = SequencesConfig(sasrec=TINY, epochs=1)
    predicted = fit_sequences(log, rows, np.zeros(30, np.float32), config).predict(rows)
    assert predicted.shape == (30,)
    assert bool(((predicted > 0) & (predicted < 1)).all())


def test_no_rows_are_said_in_one_line() -> None:
    log = watch_log([1.0], [10.0])
    with pytest.raises(BadInput, match="no rows to fit"):
        fit_sequences(log, np.zeros(0, np.int64), np.zeros(1, np.float32))


@pytest.fixture(scope="module")
def written(
    smoke_bundles: Path, synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Interactions, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """A log and the label `pcr` that the command wrote for it, row for row."""
    out = tmp_path_factory.mktemp("label") / "labels.parquet"
    bundle = open_bundle(smoke_bundles)
    label_log(bundle, synthetic_data, out, labels=["pcr"])
    dataset = load(synthetic_data)
    log = dataset.interactions(bundle.vocabulary)
    keyed = dataset.log.select("user_id", "timestamp_ms").with_columns(pl.read_parquet(out)["pcr"])
    ordered = keyed.sort("user_id", "timestamp_ms")
    assert ordered["timestamp_ms"].to_numpy().tolist() == log.timestamp_ms.tolist()
    return log, ordered["pcr"].to_numpy().astype(np.float32)


@pytest.mark.slow
def test_sasrec_learns_the_labels_that_the_command_wrote(
    written: tuple[Interactions, np.ndarray[tuple[int], np.dtype[np.float32]]],
) -> None:
    log, label = written
    split = split_by_time(
        log.timestamp_ms, Boundaries.at_shares(log.timestamp_ms, meta=0.0, early_stop=0.2, test=0.0)
    )
    config = SequencesConfig(
        sasrec=TINY.model_copy(update={"embedding": 8, "length": 40, "dropout": 0.2}),
        epochs=10,
        batch_users=10,
        learning_rate=5e-3,
        weight_decay=1.0,
    )
    fitted = fit_sequences(log, split.train, label, config)
    assert fitted.losses[-1] < fitted.losses[0]
    later = split.early_stop
    error = float(((fitted.predict(later) - label[later]) ** 2).mean())
    constant = float(((label[split.train].mean() - label[later]) ** 2).mean())
    assert error < 0.98 * constant
    assert stats.spearmanr(fitted.predict(later), label[later]).statistic > 0.1


@pytest.mark.slow
def test_lightgbm_learns_the_labels_that_the_command_wrote(
    written: tuple[Interactions, np.ndarray[tuple[int], np.dtype[np.float32]]],
) -> None:
    log, label = written
    split = split_by_time(
        log.timestamp_ms, Boundaries.at_shares(log.timestamp_ms, meta=0.0, early_stop=0.2, test=0.0)
    )
    # What is known before the exposure: means of user, video and tag, of the first half of the training rows.
    train = split.train
    known = train[log.timestamp_ms[train] < np.median(log.timestamp_ms[train])]
    fit_on = np.setdiff1d(train, known)
    columns = [np.log1p(log.duration_s)]
    for ids in (log.user, log.ids[:, 0], log.ids[:, 2]):
        rows = np.bincount(ids[known], minlength=ids.max() + 1)
        total = np.bincount(ids[known], label[known], minlength=ids.max() + 1)
        columns.append((total[ids] + 5 * label[known].mean()) / (rows[ids] + 5))
    features, later = np.stack(columns, axis=1), split.early_stop
    settings = {"objective": "l2", "num_leaves": 15, "verbose": -1, "num_threads": 1, "learning_rate": 0.05}
    trees = lightgbm.train(settings, lightgbm.Dataset(features[fit_on], label[fit_on]), 60)
    predicted = np.asarray(trees.predict(features[later]))
    error = float(((predicted - label[later]) ** 2).mean())
    constant = float(((label[split.train].mean() - label[later]) ** 2).mean())
    assert error < 0.98 * constant
    assert stats.spearmanr(predicted, label[later]).statistic > 0.1
