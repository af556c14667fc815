"""LabelCraft: labels learned so that a recommender trained on them serves the platform's objectives."""

from training.labelcraft._config import LabelCraftConfig
from training.labelcraft._inner_outer import InnerLoss
from training.labelcraft._model import LabelCraft
from training.labelcraft._objectives import OBJECTIVES, Candidates, Objective, author_diversity, no_skips
from training.labelcraft._outer import MetaLearner
from training.labelcraft._soft_top_k import relative_temperature, soft_top_k
from training.labelcraft._train import Checkpoint, FittedLabels, fit_labelcraft

__all__ = [
    "OBJECTIVES",
    "Candidates",
    "Checkpoint",
    "FittedLabels",
    "InnerLoss",
    "LabelCraft",
    "LabelCraftConfig",
    "MetaLearner",
    "Objective",
    "author_diversity",
    "fit_labelcraft",
    "no_skips",
    "relative_temperature",
    "soft_top_k",
]
