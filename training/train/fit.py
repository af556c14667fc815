"""One recipe, fitted twice on one log.

The evaluation fit ends before the test days: it learns labels, early stopping decides its length, and it is
evaluated once on the test days. The release fit repeats that length on all days, with the same labels: a
bundle is exported from its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch

from models.arrays import F32, I64
from models.errors import BadInput
from models.manifest import Evaluation
from models.vocabulary import UNKNOWN, Vocabulary
from training.data import Boundaries, Dataset, Interactions, LikesHates, Split, split_by_time
from training.evaluation.comparisons import compare_with_baselines
from training.evaluation.evaluate import baselines, compute_metrics, compute_metrics_by_tab
from training.evaluation.predict import predict_torch, score_torch
from training.evaluation.reactions import reactions
from training.labels import LabelMaker, LabelMakers, fit_heuristics
from training.rankers import MultiObjectiveRanker, Ranker, TwoObjectiveRanker
from training.train import labels
from training.train.calibration import calibrate
from training.train.checkpoints import Checkpoint, Checkpoints
from training.train.fitted import Fitted, Networks
from training.train.fusion import choose_weights
from training.train.process_group import on_first, processes
from training.train.rankers import (
    ObjectivesEpoch,
    RankerEpoch,
    best_epoch_count,
    fit_objectives,
    fit_ranker,
)
from training.train.run_config import RunConfig, new_networks
from training.train.trainer import EpochResult
from training.train.trees import predict_by_trees

if TYPE_CHECKING:
    from training.balance import Balancer

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share of it that is done."""

OnEpoch = Callable[[str, int, Mapping[str, float]], None]
"""Called after an epoch with the name of the stage, the epoch, and figures by name."""

Epochs = Sequence[RankerEpoch] | Sequence[ObjectivesEpoch]


class Windows(NamedTuple):
    """A log cut at the boundaries of a fit."""

    dataset: Dataset
    vocabulary: Vocabulary
    """Of the days before the early-stop ones."""
    boundaries: Boundaries
    log: Interactions
    split: Split

    @property
    def known(self) -> I64:
        """Rows of train and meta: what ranker and tables are fitted on."""
        return np.union1d(self.split.train, self.split.meta)


def fit_for_evaluation(
    dataset: Dataset,
    config: RunConfig,
    progress: Progress,
    likes_hates: LikesHates | None = None,
    *,
    on_epoch: OnEpoch = lambda stage, epoch, figures: None,
    checkpoints: Checkpoints | None = None,
) -> tuple[Fitted, Evaluation]:
    """Fit label makers and ranker before the test days, and evaluate them on the test days.

    Args:
        dataset: the log.
        config: the run's.
        progress: called with the stage and the share of it that is done.
        likes_hates: what labels are learned from besides the log, see `learn_surface`.
        on_epoch: called after each epoch of the ranker.
        checkpoints: of this fit; it continues from them.

    Raises:
        BadInput: the log has too few days or nothing to stop early by, or labels cannot be learned from it.
    """
    checkpoints = checkpoints or Checkpoints()
    boundaries = evaluation_boundaries(dataset, config)
    windows = cut_windows(dataset, config, boundaries)
    if not len(_stop_rows(windows, config)):
        tab = f" of the main tab {dataset.info.main_tab!r}" if len(windows.split.early_stop) else ""
        raise BadInput(
            f"no exposures{tab} are in the early-stop days, to choose an epoch by; take more days."
        )
    return checkpoints.stage(
        "fitted",
        lambda: _fit_and_evaluate(windows, config, boundaries, progress, likes_hates, on_epoch, checkpoints),
        lambda result: result[0].to_state() | {"evaluation": result[1].model_dump_json()},
        lambda state: (
            Fitted.from_state(config, dataset, windows.vocabulary, state),
            Evaluation.model_validate_json(state["evaluation"]),
        ),
        together=True,
    )


def _fit_and_evaluate(
    windows: Windows,
    config: RunConfig,
    boundaries: Boundaries,
    progress: Progress,
    likes_hates: LikesHates | None,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints,
) -> tuple[Fitted, Evaluation]:
    dataset, _, _, log, split = windows
    before = rows_in_main_tab(dataset, log, log.rows_between(0, boundaries.test_ms), windows.vocabulary)
    offset = dataset.info.utc_offset_hours
    learned = labels.learn(log, before, split, config, offset, progress, likes_hates, checkpoints)
    networks = _fit_tables(windows, config, learned.label_maker, progress, checkpoints)
    epochs = _fit_ranker(
        windows,
        config,
        networks.ranker,
        learned.label_maker,
        progress,
        on_epoch,
        checkpoints.of_group("ranker"),
    )
    fitted = Fitted(
        windows.vocabulary,
        networks.label_makers,
        networks.ranker,
        on_first(lambda: choose_weights(networks.ranker, log, split.early_stop, config)),
        learned.record,
        best_epoch_count(epochs),
        {"labels": learned.curve, "ranker": [epoch._asdict() for epoch in epochs]},
        networks.refused,
    )
    trees_s = None if config.trees is None else _predict_by_trees(windows, config, progress, checkpoints)
    return fitted, on_first(lambda: evaluate_fit(windows, config, fitted, boundaries.test_ms, trees_s))


def refit(
    dataset: Dataset,
    config: RunConfig,
    progress: Progress,
    *,
    from_: Fitted,
    on_epoch: OnEpoch = lambda stage, epoch, figures: None,
    checkpoints: Checkpoints | None = None,
) -> Fitted:
    """Fit tables and ranker again on all days, with what an evaluation fit chose.

    The learned labels, the number of epochs, the calibration and the fusion weights are taken over. Learned
    again without early-stop days, labels end elsewhere: an epoch of the outer level moves them a long way,
    and no rows are left to choose a good end by.
    """
    checkpoints = checkpoints or Checkpoints()
    windows = cut_windows(dataset, config, release_boundaries(dataset, config))
    networks = _fit_tables(windows, config, from_.labelcraft, progress, checkpoints)
    epochs = _fit_ranker(
        windows,
        config,
        networks.ranker,
        from_.labelcraft,
        progress,
        on_epoch,
        checkpoints.of_group("ranker"),
        from_,
    )
    return Fitted(
        windows.vocabulary,
        networks.label_makers,
        networks.ranker,
        from_.weights,
        from_.learned_labels,
        len(epochs),
        {"labels": from_.curves["labels"], "ranker": [epoch._asdict() for epoch in epochs]},
        networks.refused,
    )


def evaluation_boundaries(dataset: Dataset, config: RunConfig) -> Boundaries:
    """Return the windows of the evaluation fit."""
    return dataset.last_days(
        test_days=config.test_days, stop_days=config.stop_days, meta_days=config.meta_days
    )


def release_boundaries(dataset: Dataset, config: RunConfig) -> Boundaries:
    """Return the windows of the release fit, which ends with the log."""
    return dataset.last_days(test_days=0, stop_days=0, meta_days=config.meta_days)


def rows_in_main_tab(dataset: Dataset, log: Interactions, rows: I64, vocabulary: Vocabulary) -> I64:
    """Return the rows of the main tab, in which results are reported; all where the data set has none."""
    main = dataset.info.main_tab
    if main is None:
        return rows
    index = vocabulary.index("tab", main)
    return rows[log.tab[rows] == index] if index != UNKNOWN else rows[:0]


def cut_windows(dataset: Dataset, config: RunConfig, boundaries: Boundaries) -> Windows:
    """Cut a log at the boundaries of a fit.

    Raises:
        BadInput: nothing is left to train on.
    """
    vocabulary = dataset.vocabulary(boundaries.early_stop_ms, config.min_count)
    log = dataset.interactions(vocabulary)
    windows = Windows(dataset, vocabulary, boundaries, log, split_by_time(log.timestamp_ms, boundaries))
    if not len(windows.split.train):
        raise BadInput("no exposures are left to train on before the meta hold-out; use a longer log.")
    return windows


def _stop_rows(windows: Windows, config: RunConfig) -> I64:
    """The early-stop rows that choose the ranker's epoch. Seconds are those of the main tab alone."""
    dataset, vocabulary, _, log, split = windows
    rows = split.early_stop
    return rows if config.objectives is not None else rows_in_main_tab(dataset, log, rows, vocabulary)


def _fit_tables(
    windows: Windows, config: RunConfig, learned: LabelMaker, progress: Progress, checkpoints: Checkpoints
) -> Networks:
    """The label makers with their tables, and a new ranker with those of its head."""
    dataset, known = windows.dataset, windows.log.take(windows.known)
    profile = dataset.profile_numbers, dataset.profile_categories
    shapes = (config, windows.vocabulary, *profile, dataset.signals, dataset.video_features)

    def fit() -> Networks:
        _, ranker = new_networks(*shapes)
        heuristics, refused = fit_heuristics(known)
        makers: list[LabelMaker] = [learned, *heuristics]
        progress("anchors", 0.0)
        ranker.head.fit_tables(known, seed=config.seed)
        ranker.scale.fit(known.watch_time_s)
        progress("anchors", 1.0)
        return Networks(LabelMakers(makers).fit_percentiles(known), ranker, refused)

    return checkpoints.stage(
        "tables", fit, Networks.to_state, lambda state: Networks.from_state(*shapes, state)
    )


def _fit_ranker(
    windows: Windows,
    config: RunConfig,
    ranker: Ranker,
    learned: LabelMaker,
    progress: Progress,
    on_epoch: OnEpoch,
    checkpoint: Checkpoint,
    from_: Fitted | None = None,
) -> Epochs:
    """Fit the ranker and its calibration with early stopping, or as `from_` was fitted."""
    dataset, vocabulary, _, log, split = windows
    label, censored = _labels(learned, log, windows.known), dataset.censored(vocabulary)
    stop_after = None if from_ is None else from_.ranker_epochs
    stop_rows = _stop_rows(windows, config) if from_ is None else None

    def on_step(share: float) -> None:
        progress("ranker", share)

    def report(epoch: EpochResult) -> None:
        on_epoch("ranker", epoch.epoch, _figures(epoch))

    if not isinstance(ranker, MultiObjectiveRanker):
        return fit_ranker(
            cast(TwoObjectiveRanker, ranker),
            log,
            windows.known,
            label,
            config.loop,
            seed=config.seed,
            stop_rows=stop_rows,
            stop_after=stop_after,
            censored=censored,
            on_step=on_step,
            on_epoch=report,
            checkpoint=checkpoint,
        )
    objectives = config.objectives
    assert objectives is not None
    balancer: Balancer | None = None
    if objectives.balancer == "gradcraft":
        if processes() > 1:
            raise BadInput(
                "GradCraft balances the gradients of whole batches, of which each process has a part; "
                "fit in one process, or take `objectives.balancer=entropy`."
            )
        from training.balance import GradCraft  # TorchJD takes a second to import: only such fits wait for it

        balancer = GradCraft(objectives.tau, objectives.epsilon)
    epochs = fit_objectives(
        ranker,
        log,
        windows.known,
        config.loop,
        balancer,
        seed=config.seed,
        weight=objectives.weight,
        label=label,
        stop_rows=stop_rows,
        stop_after=stop_after,
        censored=censored,
        on_step=on_step,
        on_epoch=report,
        checkpoint=checkpoint,
    )
    if from_ is None:
        stop_label = _labels(learned, log, split.early_stop)
        calibrate(ranker, log, split.early_stop, config.loop.sequence_length, stop_label)
    else:
        ranker.platt.load_state_dict(cast(MultiObjectiveRanker, from_.ranker).platt.state_dict())
    return epochs


def _figures(epoch: EpochResult) -> dict[str, float]:
    """Return what is logged of an epoch: the sum of its losses, and what was measured on early-stop rows."""
    measured = {"stop_error": epoch.error, **epoch.metrics}
    return {"loss": sum(epoch.losses)} | {
        n: float(value) for n, value in measured.items() if value is not None
    }


def _labels(learned: LabelMaker, log: Interactions, rows: I64) -> F32:
    with torch.no_grad():
        out: F32 = learned(torch.from_numpy(log.feedback[rows])).numpy()
    return out


def _predict_by_trees(
    windows: Windows, config: RunConfig, progress: Progress, checkpoints: Checkpoints
) -> F32:
    """Seconds of the test rows."""
    dataset, vocabulary, _, log, split = windows
    assert config.trees is not None
    trees, rows = config.trees, (windows.known, _stop_rows(windows, config), split.test)
    progress("trees", 0.0)
    seconds: F32 = checkpoints.stage(
        "trees",
        lambda: predict_by_trees(dataset, vocabulary, log, rows, config, trees),
        lambda seconds: {"seconds": torch.from_numpy(seconds)},
        lambda state: state["seconds"].numpy(),
    )
    progress("trees", 1.0)
    return seconds


def evaluate_fit(
    windows: Windows, config: RunConfig, fitted: Fitted, from_ms: int, trees_s: F32 | None
) -> Evaluation:
    """Return the metrics of a fit on the days after it."""
    log, rows = windows.log, windows.split.test
    length, before = config.loop.sequence_length, log.rows_between(0, from_ms)
    predictions = predict_torch(fitted.ranker, log, rows, length)
    reacted = reactions(partial(score_torch, fitted.ranker, fitted.weights), log, rows, length)
    tabs = fitted.vocabulary.fields["tab"]
    return Evaluation(
        fitted_before_ms=from_ms,
        from_ms=from_ms,
        to_ms=windows.dataset.info.last_timestamp_ms + 1,
        metrics=compute_metrics(log, rows, predictions, fitted.weights) | reacted,
        by_tab=compute_metrics_by_tab(log, rows, predictions, fitted.weights, tabs),
        baselines=baselines(log, rows, before, tabs),
        comparisons=compare_with_baselines(log, rows, before, predictions.pointwise, trees_s),
    )
