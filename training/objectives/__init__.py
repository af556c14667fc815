"""Many objectives from one encoder: what happens at an exposure, experts, probabilities, their fit."""

from training.objectives._calibrate import Platt
from training.objectives._experts import Experts, ObjectivesConfig
from training.objectives._fit import (
    Found,
    ObjectivesEpoch,
    calibrate,
    fit_objectives,
    objective_epochs_kept,
    order_figures,
    predict_objectives,
    targets,
)
from training.objectives._fusion import choose_fusion
from training.objectives._outcomes import OUTCOMES, Outcome, outcomes
from training.objectives._ranker import INTEREST, NAMES, WATCH_TIME, ObjectivesRanker

__all__ = [
    "INTEREST",
    "NAMES",
    "OUTCOMES",
    "WATCH_TIME",
    "Experts",
    "Found",
    "ObjectivesConfig",
    "ObjectivesEpoch",
    "ObjectivesRanker",
    "Outcome",
    "Platt",
    "calibrate",
    "choose_fusion",
    "fit_objectives",
    "objective_epochs_kept",
    "order_figures",
    "outcomes",
    "predict_objectives",
    "targets",
]
