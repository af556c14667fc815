"""One recipe, from a data set to a run folder: label maker, ranker, and the figures they are judged by.

The recipe is fitted twice. First on the days before the test days, where early stopping decides how long,
and judged once on the test days: those are the figures of the manifest. Then, with the lengths found, on all
days: those are the weights that are released.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt

from models.arrays import I64
from models.errors import BadInput
from models.features import SEQUENCE_ID_COLUMNS
from models.manifest import Evaluation
from models.vocabulary import Vocabulary
from training.config import Config
from training.data import Boundaries, Dataset, Interactions, Split, split_by_time
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.evaluation.evaluate import Answers, answers_of, judge, judge_by_tab, median_baseline
from training.export.bundle import Labeler
from training.labelcraft import LabelCraft, LabelCraftConfig, fit_labelcraft
from training.labels import (
    D2Q,
    EF,
    PC,
    PCR,
    VIEWS,
    WPR,
    WT,
    WTG,
    AnyLabelMaker,
    D2Co,
    ProgressView,
    ProgressViewByCrowd,
    ProgressViewByDuration,
    SASRecBinary,
    SASRecRatio,
    Scale,
    WTGRelevant,
)
from training.lda import LDA, LDAConfig
from training.rankers import ObjectivesConfig, ObjectivesRanker, Ranker, choose_fusion
from training.train.multi_objective import ObjectivesEpoch, calibrate, fit_objectives, objective_epochs_kept
from training.train.trainer import Epoch, LoopConfig, epochs_kept, fit_ranker, predict

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share of it that is done."""


class RunConfig(Config):
    """A whole run. `training/train/recipes.py` holds functions that return one of these."""

    test_days: PositiveInt = 2
    """The last days of the log, looked at once."""
    stop_days: PositiveInt = 1
    """The days before them: when to stop, and the fusion weights."""
    meta_days: PositiveInt = 2
    """The days before those: LabelCraft's hold-out, apart from early stopping."""
    min_count: PositiveInt = 2
    """Ids on fewer exposures share the unknown row."""
    labelcraft: LabelCraftConfig = LabelCraftConfig()
    encoder: FeedbackEncoderConfig = FeedbackEncoderConfig()
    lda: LDAConfig = LDAConfig()
    loop: LoopConfig = LoopConfig()
    objectives: ObjectivesConfig | None = None
    """With it the ranker predicts all objectives, balanced by GradCraft; without, watch time and interest."""
    fusion_grid: tuple[PositiveFloat, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    """Weights of `interest` beside a `watch_time` of 1 that are tried on the early-stop days; with
    `objectives` see `choose_fusion` instead."""
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """What one fit leaves: everything a bundle is exported from."""

    vocabulary: Vocabulary
    labeler: Labeler
    ranker: Ranker | ObjectivesRanker
    weights: dict[str, float]
    label_epochs: int
    ranker_epochs: int
    curves: dict[str, list[dict[str, Any]]]
    left_out: dict[str, str]
    """Label makers that this log does not allow, and why."""

    @property
    def labelcraft(self) -> LabelCraft:
        """The label maker that was learned, the first of `labeler`."""
        return cast(LabelCraft, self.labeler.makers[0])


def boundaries(dataset: Dataset, config: RunConfig, *, judged: bool) -> Boundaries:
    """The windows of the judged fit (before the test days), or of the final fit (all days).

    The final fit has no early-stop days: it repeats what the judged one found.

    Raises:
        BadInput: the log has too few days.
    """
    return dataset.last_days(
        test_days=config.test_days if judged else 0,
        stop_days=config.stop_days if judged else 0,
        meta_days=config.meta_days,
    )


def fit_once(
    dataset: Dataset, config: RunConfig, at: Boundaries, progress: Progress, like: Fitted | None = None
) -> Fitted:
    """Fit label makers and ranker on what lies before the test window.

    Args:
        dataset: the data set.
        config: the recipe.
        at: the windows. Without early-stop rows `like` must be given.
        progress: told how far each stage is.
        like: an earlier fit whose learned labels, number of epochs and fusion weights are taken over.
    """
    vocabulary = dataset.vocabulary(at.early_stop_ms, config.min_count)
    log = dataset.interactions(vocabulary)
    split = split_by_time(log.timestamp_ms, at)
    train, meta, stop = split.train, split.meta, split.early_stop
    seen = np.union1d(train, meta)
    if not len(train):
        raise BadInput("no exposures are left to train on before the meta hold-out; use a longer log.")

    labeler, ranker = networks(config, vocabulary, dataset.profile_numbers, dataset.profile_categories)
    if like is None:
        crafted = fit_labelcraft(
            log,
            train,
            meta,
            stop,
            config.labelcraft,
            seed=config.seed,
            on_progress=lambda share: progress("labels", share),
        )
        learned, label_epochs, curve = crafted.labeler, crafted.best_epoch + 1, crafted.curves
    else:
        # The labels that were judged. Learned again without early-stop days they end elsewhere: an epoch of
        # the outer level moves them a long way, and nothing is left to tell a good end from a bad one.
        learned, label_epochs, curve = like.labelcraft, like.label_epochs, like.curves["labels"]
    known = log.take(seen)
    fixed, left_out = fit_rules(known)
    labeler = Labeler([learned, *fixed])
    with torch.no_grad():
        label = learned(torch.from_numpy(known.feedback)).numpy()
    progress("anchors", 0.0)
    ranker.head.fit_tables(known, seed=config.seed)
    ranker.scale.fit(known.watch_time_s)
    progress("anchors", 1.0)
    epochs: Sequence[Epoch | ObjectivesEpoch]
    if isinstance(ranker, ObjectivesRanker):
        epochs, kept = _fit_objectives(
            dataset, log, vocabulary, split, learned, ranker, config, progress, like
        )
    else:
        epochs = one_objective = fit_ranker(
            ranker,
            log,
            seen,
            label,
            config.loop,
            seed=config.seed,
            stop_after=like.ranker_epochs if like else None,
            censored=dataset.censored(vocabulary),
            stop_rows=None if like else in_main_tab(dataset, log, stop, vocabulary),
            on_step=lambda share: progress("ranker", share),
        )
        kept = len(epochs) if like else epochs_kept(one_objective)
    return Fitted(
        vocabulary,
        labeler,
        ranker,
        like.weights if like else choose_weights(ranker, log, stop, config),
        label_epochs,
        kept,
        {"labels": curve, "ranker": [e._asdict() for e in epochs]},
        left_out,
    )


def _fit_objectives(
    dataset: Dataset,
    log: Interactions,
    vocabulary: Vocabulary,
    split: Split,
    learned: LabelCraft,
    ranker: ObjectivesRanker,
    config: RunConfig,
    progress: Progress,
    like: Fitted | None,
) -> tuple[list[ObjectivesEpoch], int]:
    """Fit a ranker of many objectives and its calibration; its epochs, and how many were kept.

    The fit on all days has no rows left to calibrate on, and takes the judged fit's lines."""
    from training.balance import GradCraft  # TorchJD takes a second to import: only such fits wait for it

    assert config.objectives is not None
    seen, stop = np.union1d(split.train, split.meta), split.early_stop
    with torch.no_grad():
        label, stop_label = (learned(torch.from_numpy(log.feedback[r])).numpy() for r in (seen, stop))
    epochs = fit_objectives(
        ranker,
        log,
        seen,
        config.loop,
        GradCraft(config.objectives.tau, config.objectives.epsilon),
        seed=config.seed,
        label=label,
        stop_rows=None if like else stop,
        stop_after=like.ranker_epochs if like else None,
        censored=dataset.censored(vocabulary),
        on_step=lambda share: progress("ranker", share),
    )
    if like is not None:
        ranker.platt.load_state_dict(cast(ObjectivesRanker, like.ranker).platt.state_dict())
        return epochs, len(epochs)
    calibrate(ranker, log, stop, config.loop.sequence_length, stop_label)
    return epochs, objective_epochs_kept(epochs)


def rules() -> list[AnyLabelMaker]:
    """The hand-made label makers that every bundle serves next to LabelCraft."""
    return [
        WT(),
        EF(),
        PC(),
        PCR(),
        D2Q(),
        WTG(),
        D2Co(),
        SASRecBinary(),
        SASRecRatio(),
        WTGRelevant(),
        WPR(),
        WPR(debias=True),
        *(ProgressView(view) for view in VIEWS),
        *(ProgressViewByDuration(view) for view in VIEWS),
        *(ProgressViewByCrowd(view, "u") for view in VIEWS),
        *(ProgressViewByCrowd(view, "v") for view in VIEWS),
    ]


def fit_rules(known: Interactions) -> tuple[list[AnyLabelMaker], dict[str, str]]:
    """Every rule that a log allows, fitted on it; and of the others, by name, what they cannot do."""
    fitted: list[AnyLabelMaker] = []
    left_out: dict[str, str] = {}
    for rule in rules():
        try:
            fitted.append(rule.fit(known))
        except BadInput as e:
            left_out[rule.name] = str(e)
    return fitted, left_out


def fresh_encoder(
    config: FeedbackEncoderConfig,
    vocabulary: Vocabulary,
    numbers: tuple[str, ...],
    categories: tuple[str, ...],
) -> FeedbackEncoder:
    """An unfitted encoder of the sizes that a vocabulary and its profile features call for."""
    video, author, tag, tab = (vocabulary.size(f) for f in SEQUENCE_ID_COLUMNS)
    sizes = tuple(vocabulary.size(f"profile.{name}") for name in categories)
    return FeedbackEncoder((video, author, tag, tab), len(numbers), sizes, config)


def networks(
    config: RunConfig,
    vocabulary: Vocabulary,
    numbers: tuple[str, ...],
    categories: tuple[str, ...],
    left_out: Collection[str] = (),
) -> tuple[Labeler, Ranker | ObjectivesRanker]:
    """Fresh, unfitted networks of the shapes that a config and a vocabulary call for."""
    torch.manual_seed(config.seed)
    encoder = fresh_encoder(config.encoder, vocabulary, numbers, categories)
    ranker: Ranker | ObjectivesRanker
    if config.objectives is None:
        ranker = Ranker(encoder, LDA(config.encoder.width, config.lda), Scale())
    else:
        head = LDA(config.objectives.expert, config.lda)
        ranker = ObjectivesRanker(encoder, head, Scale(), config.objectives)
    fixed = [rule for rule in rules() if rule.name not in left_out]
    return Labeler([LabelCraft(config.labelcraft), *fixed]), ranker


def choose_weights(
    ranker: Ranker | ObjectivesRanker, log: Interactions, rows: I64, config: RunConfig
) -> dict[str, float]:
    """The weights with the highest NWTG@10 + NEG@10 on these rows; of many objectives see `choose_fusion`."""
    out = predict(ranker, log, rows, config.loop.sequence_length, together=True)
    if config.objectives is not None:
        return choose_fusion(log, rows, out.objectives)
    best, best_weights = -np.inf, {"watch_time": 1.0, "interest": 1.0}
    for interest in config.fusion_grid:
        weights = {"watch_time": 1.0, "interest": interest}
        figures = judge(log, rows, Answers(out, out), weights)  # of the order alone
        value = sum(figures[name] or 0.0 for name in ("nwtg@10", "neg@10"))
        if value > best:
            best, best_weights = value, weights
    return best_weights


def in_main_tab(dataset: Dataset, log: Interactions, rows: I64, vocabulary: Vocabulary) -> I64:
    """The rows of the feed where watch time is judged; all of them where the data set names none."""
    main = dataset.info.main_tab
    return rows if main is None else rows[log.ids[rows, 3] == vocabulary.index("tab", main)]


def judge_once(dataset: Dataset, config: RunConfig, fitted: Fitted, at: Boundaries) -> Evaluation:
    """The figures of a fit on the days after it, which nothing of it has seen."""
    log = dataset.interactions(fitted.vocabulary)
    to_ms = dataset.info.last_timestamp_ms + 1
    rows = split_by_time(log.timestamp_ms, at).test
    out = answers_of(fitted.ranker, log, rows, config.loop.sequence_length)
    tabs = fitted.vocabulary.fields["tab"]
    return Evaluation(
        fitted_before_ms=at.test_ms,
        from_ms=at.test_ms,
        to_ms=to_ms,
        metrics=judge(log, rows, out, fitted.weights),
        by_tab=judge_by_tab(log, rows, out, fitted.weights, tabs),
        baselines={"median": median_baseline(log, rows, log.rows_between(0, at.test_ms), tabs)},
    )
