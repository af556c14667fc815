"""Heads that turn an encoder's state into seconds of watch time."""

from training.watch_time._base import QUANTILES, DistributionHead, Head, Prediction
from training.watch_time._cread import CREAD, CREADConfig
from training.watch_time._cwm import CWM, CWMConfig
from training.watch_time._d2q import D2QSeconds, D2QSecondsConfig
from training.watch_time._lda import LDA, LDAConfig
from training.watch_time._or import OR, ORConfig
from training.watch_time._tpm import TPM, TPMConfig
from training.watch_time._vr import VR, VRConfig
from training.watch_time._wlr import WLR, WLRConfig

__all__ = [
    "CREAD",
    "CWM",
    "LDA",
    "OR",
    "QUANTILES",
    "TPM",
    "VR",
    "WLR",
    "CREADConfig",
    "CWMConfig",
    "D2QSeconds",
    "D2QSecondsConfig",
    "DistributionHead",
    "Head",
    "LDAConfig",
    "ORConfig",
    "Prediction",
    "TPMConfig",
    "VRConfig",
    "WLRConfig",
]
