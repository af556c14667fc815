"""The first stage of a fit: labels are learned on the days before the test days."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from models.arrays import I64
from models.errors import BadInput
from models.manifest import LearnedLabels, LearnerChoices, LikesAboveHates
from models.metrics import auc
from training.data import Interactions, LikesHates, Split, day_numbers
from training.labelcraft import fit_labelcraft
from training.labelcraft.closed_form import learn_labels
from training.labelcraft.evidence import compare_with_twins
from training.labels import PCR, LabelMaker, labels_of
from training.train.run_config import RunConfig

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share of it that is done."""


class Labels(NamedTuple):
    """Learned labels and what is recorded of them."""

    label_maker: LabelMaker
    record: LearnedLabels
    curve: list[dict[str, Any]]


def learn(
    log: Interactions,
    rows: I64,
    split: Split,
    config: RunConfig,
    utc_offset_hours: float,
    progress: Progress,
    likes_hates: LikesHates | None = None,
) -> Labels:
    """Learn labels as `config.learner` says, and gather what shows that learning helped.

    Args:
        log: the log.
        rows: those before the test days that the closed form learns from, ascending.
        split: the rows of the paper's learner: it needs a hold-out, and days to stop by.
        config: the run's.
        utc_offset_hours: where days begin.
        progress: called with the stage and the share of it that is done.
        likes_hates: from half of whose users the closed form learns; the others are in the record.

    Raises:
        BadInput: the log does not allow the learner, or the learner no likes and hates.
    """
    if config.learner == "one_step":
        if likes_hates is not None:
            raise BadInput(
                "labels are learned from likes and hates in closed form alone; take a recipe with "
                '`learner="closed_form"`, or leave --likes-hates out.'
            )
        fitted = fit_labelcraft(
            log,
            split.train,
            split.meta,
            split.early_stop,
            config.labelcraft,
            seed=config.seed,
            on_progress=lambda share: progress("labels", share),
        )
        record = LearnedLabels(
            learner="one_step",
            gradient="one_step",
            steps=fitted.best_epoch + 1,
            distance=fitted.distance,
        )
        return Labels(fitted.label_maker, record, fitted.curves)
    known = log.take(rows)
    day = day_numbers(known.timestamp_ms, utc_offset_hours)
    learned = learn_labels(
        known,
        day,
        config.closed_form,
        likes_hates=likes_hates,
        seed=config.seed,
        on_progress=lambda share: progress("labels", share),
    )
    evidence = compare_with_twins(
        known,
        day,
        config.closed_form,
        likes_hates=likes_hates,
        seed=config.seed,
        on_progress=lambda share: progress("labels and their twins", share),
    )
    record = LearnedLabels(
        learner="closed_form",
        gradient=config.closed_form.gradient,
        steps=len(learned.curve),
        distance=learned.distance,
        choices=LearnerChoices(**config.closed_form.model_dump(include=set(LearnerChoices.model_fields))),
        left_out=learned.left_out,
        evidence=evidence,
        likes_above_hates=None
        if likes_hates is None
        else _likes_above_hates(learned.label_maker, likes_hates, config.closed_form.likes_hates_weight),
    )
    curve = [{"step": step, "composite": value} for step, value in enumerate(learned.curve)]
    return Labels(learned.label_maker, record, curve)


def _likes_above_hates(maker: LabelMaker, rows: LikesHates, weight: float) -> LikesAboveHates:
    held_out = rows.halves()[1]
    of_label, of_share = (auc(held_out.liked, labels_of(each, held_out.log)) for each in (maker, PCR()))
    assert of_label is not None
    assert of_share is not None
    return LikesAboveHates(
        weight=weight,
        users=len(np.unique(held_out.log.user)),
        rows=len(held_out.liked),
        auc=of_label,
        watched_share_auc=of_share,
    )
