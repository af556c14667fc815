"""Heads that turn an encoder's state into seconds of watch time."""

from training.watch_time._base import DistributionHead, Head, Prediction
from training.watch_time._lda import LDA, LDAConfig
from training.watch_time._vr import VR, VRConfig

__all__ = ["LDA", "VR", "DistributionHead", "Head", "LDAConfig", "Prediction", "VRConfig"]
