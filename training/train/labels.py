"""The first stage of a fit: labels are learned on the days before the test days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np

from models.arrays import I64
from models.errors import BadInput
from models.manifest import LabelEvidence, LearnedLabels, LearnerChoices, LikesAboveHates
from models.metrics import auc
from training.data import Interactions, LikesHates, Split, day_numbers
from training.labelcraft import fit_labelcraft
from training.labelcraft.closed_form import learn_labels
from training.labelcraft.evidence import compare_with_twins
from training.labels import PCR, LabelMaker, labels_of
from training.train.checkpoints import Checkpoints, State
from training.train.run_config import RunConfig, new_label_maker, restore

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the share of it that is done."""


class Labels(NamedTuple):
    """Learned labels and what is recorded of them."""

    label_maker: LabelMaker
    record: LearnedLabels
    curve: list[dict[str, Any]]

    def to_state(self) -> State:
        """Return everything, for a checkpoint."""
        weights = self.label_maker.state_dict()
        return {"weights": weights, "record": self.record.model_dump_json(), "curve": self.curve}

    @classmethod
    def from_state(cls, config: RunConfig, state: State) -> Self:
        """Return what `to_state` was called on."""
        label_maker = new_label_maker(config)
        restore(label_maker, state["weights"])
        return cls(label_maker, LearnedLabels.model_validate_json(state["record"]), state["curve"])


def learn(
    log: Interactions,
    rows: I64,
    split: Split,
    config: RunConfig,
    utc_offset_hours: float,
    progress: Progress,
    likes_hates: LikesHates | None = None,
    checkpoints: Checkpoints | None = None,
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
        checkpoints: what was learned before the fit was stopped is not learned again.

    Raises:
        BadInput: the log does not allow the learner, or the learner no likes and hates.
    """
    checkpoints = checkpoints or Checkpoints()
    if likes_hates is not None:
        likes_hates = replace(likes_hates, log=likes_hates.log.with_signals(log.signals))
    if config.learner == "one_step":
        if likes_hates is not None:
            raise BadInput(
                "labels are learned from likes and hates in closed form alone; take a recipe with "
                '`learner="closed_form"`, or leave --likes-hates out.'
            )
        return checkpoints.stage(
            "labels",
            lambda: _learn_by_one_step(log, split, config, progress, checkpoints),
            Labels.to_state,
            lambda state: Labels.from_state(config, state),
        )
    known = log.take(rows)
    day = day_numbers(known.timestamp_ms, utc_offset_hours)
    learned = checkpoints.stage(
        "labels",
        lambda: _learn_in_closed_form(known, day, config, progress, likes_hates),
        Labels.to_state,
        lambda state: Labels.from_state(config, state),
    )
    evidence = checkpoints.stage(
        "twins",
        lambda: compare_with_twins(
            known,
            day,
            config.closed_form,
            likes_hates=likes_hates,
            seed=config.seed,
            on_progress=lambda share: progress("labels and their twins", share),
        ),
        lambda found: {"evidence": None if found is None else found.model_dump_json()},
        lambda state: state["evidence"] and LabelEvidence.model_validate_json(state["evidence"]),
    )
    return learned._replace(record=learned.record.model_copy(update={"evidence": evidence}))


def _learn_by_one_step(
    log: Interactions, split: Split, config: RunConfig, progress: Progress, checkpoints: Checkpoints
) -> Labels:
    fitted = fit_labelcraft(
        log,
        split.train,
        split.meta,
        split.early_stop,
        config.labelcraft,
        seed=config.seed,
        on_progress=lambda share: progress("labels", share),
        checkpoint=checkpoints.named("label_epochs"),
    )
    record = LearnedLabels(
        learner="one_step",
        gradient="one_step",
        steps=fitted.best_epoch + 1,
        distance=fitted.distance,
    )
    return Labels(fitted.label_maker, record, fitted.curves)


def _learn_in_closed_form(
    log: Interactions, day: I64, config: RunConfig, progress: Progress, likes_hates: LikesHates | None
) -> Labels:
    learned = learn_labels(
        log,
        day,
        config.closed_form,
        likes_hates=likes_hates,
        seed=config.seed,
        on_progress=lambda share: progress("labels", share),
    )
    record = LearnedLabels(
        learner="closed_form",
        gradient=config.closed_form.gradient,
        steps=len(learned.curve),
        distance=learned.distance,
        choices=LearnerChoices(**config.closed_form.model_dump(include=set(LearnerChoices.model_fields))),
        left_out=learned.left_out,
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
