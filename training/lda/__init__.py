"""LDA: watch time as a mixture over label-distribution anchors, aligned by optimal transport."""

from training.lda._anchors import Anchors, AnchorsConfig, fit_anchors, random_anchors
from training.lda._head import LDA, LDAConfig
from training.lda._sampling import Sampling, sample_sequences
from training.lda._sinkhorn import sinkhorn
from training.lda._vqvae import VQVAE, Quantised

__all__ = [
    "LDA",
    "VQVAE",
    "Anchors",
    "AnchorsConfig",
    "LDAConfig",
    "Quantised",
    "Sampling",
    "fit_anchors",
    "random_anchors",
    "sample_sequences",
    "sinkhorn",
]
