"""Hyperparameters of LabelCraft in closed form."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from training.config import Config

Gradient = Literal["exact", "one_step", "shuffled"]
"""Of the scores by the labels, see `ClosedFormConfig.gradient`."""


class ClosedFormConfig(Config):
    """Hyperparameters of `learn_labels`."""

    objectives: Literal["relative", "paper"] = "relative"
    """What the platform wants: `RELATIVE_OBJECTIVES`, or `OBJECTIVES`, LabelCraft's own."""

    next_day_return: bool = False
    """Whether being back on the next day is an objective, too, see `next_day_return`. Windows of one day
    cannot have it: all exposures of a day are followed by the same return. Off: `compare labels` has a row of
    it."""

    watch_knots: Annotated[int, Field(ge=3)] = 27
    """Of the table along log(1 + watch time)."""
    duration_knots: Annotated[int, Field(ge=3)] = 15
    """Of the table along log(1 + duration)."""
    monotone: bool = True
    """More watched never lowers a label, explicit feedback never does, and any hate is below a skip."""
    smoothness: Annotated[float, Field(ge=0)] = 0.1
    """Penalty on second differences of the table, in deviations of the label."""
    window_days: PositiveInt = 2
    """Days of a window of held-out users, whose recommender is fitted on all days before."""
    k: PositiveInt = 5
    """Size of the slate."""
    temperature: PositiveFloat = 0.15
    """Of the soft top-k, as a share of the deviation of a user's scores."""
    ridge: PositiveFloat = 1e4
    """λ: a prior of so many rows."""
    likes_hates_weight: Annotated[float, Field(ge=0)] = 0.4
    """Of likes above hates beside the objectives, where there are rows of both."""
    steps: Annotated[int, Field(ge=0)] = 250
    """Full steps of the outer level; with 0 the labels stay at their start."""
    learning_rate: PositiveFloat = 0.03
    """Of Adam."""
    average: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of the steps, the last ones, whose tables are averaged."""
    select: bool = False
    """Keep each draw's step with the best composite instead of an average: a control, for picking a lucky
    step gains without any learning."""
    redraws: PositiveInt = 5
    """Sets of held-out users whose tables are averaged: all as they are, and the others drawn from them with
    replacement."""
    gradient: Gradient = "exact"
    """Of the scores by the labels: through the solution, through one step of gradient descent from it, as
    LabelCraft does, or with each training row taken for another, the control of what the gradient knows. The
    scores are those of the solution."""
