"""`compare objectives`: every way of balancing many objectives, on one ranker and one log."""

from training.compare.objectives._compare import compare_objectives
from training.compare.objectives._methods import METHODS, Method
from training.compare.objectives._world import CompareObjectivesConfig

__all__ = [
    "METHODS",
    "CompareObjectivesConfig",
    "Method",
    "compare_objectives",
]
