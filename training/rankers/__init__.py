"""Many objectives from one encoder: what happens at an exposure, experts, probabilities, their fit."""

from training.rankers._calibration import Platt
from training.rankers._experts import Experts, ObjectivesConfig
from training.rankers._fusion import choose_fusion
from training.rankers._multi_objective import INTEREST, NAMES, WATCH_TIME, ObjectivesRanker
from training.rankers._outcomes import OUTCOMES, Outcome, outcomes
from training.rankers._single import Ranker

__all__ = [
    "INTEREST",
    "NAMES",
    "OUTCOMES",
    "WATCH_TIME",
    "Experts",
    "ObjectivesConfig",
    "ObjectivesRanker",
    "Outcome",
    "Platt",
    "Ranker",
    "choose_fusion",
    "outcomes",
]
