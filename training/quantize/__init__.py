"""Discrete codes for label distributions: the first stage of LDA."""

from training.quantize._anchors import Anchors, AnchorsConfig, fit_anchors, random_anchors
from training.quantize._sampling import Sampling, sample_sequences
from training.quantize._vqvae import VQVAE, Quantised

__all__ = [
    "VQVAE",
    "Anchors",
    "AnchorsConfig",
    "Quantised",
    "Sampling",
    "fit_anchors",
    "random_anchors",
    "sample_sequences",
]
