"""Label makers: feedback on an exposure -> the target a recommender is trained on, in [0, 1].

>>> import torch
>>> from training.labels import PCR
>>> feedback = torch.tensor([[6.0, 12.0, 0, 0, 0, 0, 0, 0]])  # half of 12 s, columns of models.features
>>> PCR()(feedback)
tensor([0.5000])
"""

from training.labels._base import LabelMaker
from training.labels._d2q import D2Q
from training.labels._ef import EF
from training.labels._fit_labelcraft import Checkpoint, FittedLabels, fit_labelcraft, fit_recommender
from training.labels._labelcraft import LabelCraft
from training.labels._labelcraft_config import LabelCraftConfig
from training.labels._meta import MetaLearner
from training.labels._objectives import OBJECTIVES, Candidates, Objective
from training.labels._pc import PC
from training.labels._pcr import PCR
from training.labels._scale import Scale
from training.labels._wt import WT

__all__ = [
    "D2Q",
    "EF",
    "OBJECTIVES",
    "PC",
    "PCR",
    "WT",
    "Candidates",
    "Checkpoint",
    "FittedLabels",
    "LabelCraft",
    "LabelCraftConfig",
    "LabelMaker",
    "MetaLearner",
    "Objective",
    "Scale",
    "fit_labelcraft",
    "fit_recommender",
]
