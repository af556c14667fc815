"""Heads that turn an encoder's state into seconds of watch time."""

from training.watch_time._base import QUANTILES, DistributionHead, DistributionModule, Head, Prediction
from training.watch_time._cread import CREAD, CREADConfig
from training.watch_time._cwm import CWM, CWMConfig
from training.watch_time._d2q import D2QSeconds, D2QSecondsConfig
from training.watch_time._dml import DML, DMLConfig
from training.watch_time._losses import RankError, RankLoss, Regression, regression_loss
from training.watch_time._mixture import (
    mixture_crps,
    mixture_quantiles,
    mixture_rank,
    state_edges,
    state_loss,
    state_probabilities,
    state_shares,
)
from training.watch_time._or import OR, ORConfig
from training.watch_time._tpm import TPM, TPMConfig
from training.watch_time._vr import VR, VRConfig
from training.watch_time._wlr import WLR, WLRConfig

__all__ = [
    "CREAD",
    "CWM",
    "DML",
    "OR",
    "QUANTILES",
    "TPM",
    "VR",
    "WLR",
    "CREADConfig",
    "CWMConfig",
    "D2QSeconds",
    "D2QSecondsConfig",
    "DMLConfig",
    "DistributionHead",
    "DistributionModule",
    "Head",
    "ORConfig",
    "Prediction",
    "RankError",
    "RankLoss",
    "Regression",
    "TPMConfig",
    "VRConfig",
    "WLRConfig",
    "mixture_crps",
    "mixture_quantiles",
    "mixture_rank",
    "regression_loss",
    "state_edges",
    "state_loss",
    "state_probabilities",
    "state_shares",
]
