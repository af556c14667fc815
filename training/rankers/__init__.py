"""Rankers: one encoder and its heads, for watch time and interest, or for many objectives."""

from training.rankers._base import INTEREST, WATCH_TIME, Ranker, RankerOutputs
from training.rankers._calibration import Platt
from training.rankers._multi_objective import NAMES, MultiObjectiveRanker
from training.rankers._objectives_config import ObjectivesConfig
from training.rankers._outcomes import OUTCOMES, Outcome, outcomes, outcomes_with
from training.rankers._two_objective import TwoObjectiveRanker

__all__ = [
    "INTEREST",
    "NAMES",
    "OUTCOMES",
    "WATCH_TIME",
    "MultiObjectiveRanker",
    "ObjectivesConfig",
    "Outcome",
    "Platt",
    "Ranker",
    "RankerOutputs",
    "TwoObjectiveRanker",
    "outcomes",
    "outcomes_with",
]
