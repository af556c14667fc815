"""The recommender that label makers are evaluated with: the same DIN, fitted on any labels.

Labels are as good as the recommender that is fitted on them, so everything but the labels is the same: rows,
features, sizes, optimiser, early stopping.
"""

from training.recommender._adversary import Adversary, reverse_gradient
from training.recommender._config import RecommenderConfig
from training.recommender._fit import FittedRecommender, fit_recommender
from training.recommender._sequences import FittedSequences, SequencesConfig, fit_sequences
from training.recommender._shared_bottom import SharedBottom

__all__ = [
    "Adversary",
    "FittedRecommender",
    "FittedSequences",
    "RecommenderConfig",
    "SequencesConfig",
    "SharedBottom",
    "fit_recommender",
    "fit_sequences",
    "reverse_gradient",
]
