"""`compare labels`: every label maker on one log, judged by the same recommender."""

from training.compare.labels._compare import compare_labels
from training.compare.labels._methods import METHODS, Method
from training.compare.labels._world import CompareConfig

__all__ = [
    "METHODS",
    "CompareConfig",
    "Method",
    "compare_labels",
]
