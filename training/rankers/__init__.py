"""Rankers: one encoder and its heads, for watch time and interest, or for many objectives."""

from training.rankers._base import INTEREST, WATCH_TIME, Ranker
from training.rankers._calibration import Platt
from training.rankers._experts import Experts, ObjectivesConfig
from training.rankers._multi_objective import NAMES, MultiObjectiveRanker
from training.rankers._outcomes import OUTCOMES, Outcome, outcomes
from training.rankers._two_objective import TwoObjectiveRanker

__all__ = [
    "INTEREST",
    "NAMES",
    "OUTCOMES",
    "WATCH_TIME",
    "Experts",
    "MultiObjectiveRanker",
    "ObjectivesConfig",
    "Outcome",
    "Platt",
    "Ranker",
    "TwoObjectiveRanker",
    "outcomes",
]
