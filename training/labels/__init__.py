"""Label makers: feedback on an exposure -> the target a recommender is trained on, in [0, 1].

>>> import torch
>>> from training.labels import PCR
>>> feedback = torch.tensor([[6.0, 12.0, 0, 0, 0, 0, 0, 0]])  # half of 12 s, columns of models.features
>>> PCR()(feedback)
tensor([0.5000])
"""

from training.labels._base import LabelMaker, duration_s, explicit, hated, labels_of, watch_time_s
from training.labels._d2co import D2Co
from training.labels._d2q import D2Q
from training.labels._dml_views import VIEWS, ProgressView, ProgressViewByDuration, ProgressViewByGroup
from training.labels._dml_wpr import WPR
from training.labels._ef import EF
from training.labels._graph import LabelMakers
from training.labels._heuristics import fit_heuristics, heuristic_label_makers
from training.labels._pc import PC
from training.labels._pcr import PCR
from training.labels._rad import RAD
from training.labels._sasrec_binary import SASRecBinary
from training.labels._sasrec_ratio import SASRecRatio
from training.labels._scale import Scale
from training.labels._signal import SignalLabel
from training.labels._wt import WT
from training.labels._wtg import WTG
from training.labels._wtg_relevant import WTGRelevant

__all__ = [
    "D2Q",
    "EF",
    "PC",
    "PCR",
    "RAD",
    "VIEWS",
    "WPR",
    "WT",
    "WTG",
    "D2Co",
    "LabelMaker",
    "LabelMakers",
    "ProgressView",
    "ProgressViewByDuration",
    "ProgressViewByGroup",
    "SASRecBinary",
    "SASRecRatio",
    "Scale",
    "SignalLabel",
    "WTGRelevant",
    "duration_s",
    "explicit",
    "fit_heuristics",
    "hated",
    "heuristic_label_makers",
    "labels_of",
    "watch_time_s",
]
