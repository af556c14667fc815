"""LDA: watch time as a mixture over label-distribution anchors, aligned by optimal transport.

Stage 1, once, on the watch ratios r = w / d of the training rows of each duration group:

    sequences of ratios                         sorted draws from local rank windows   _sampling.py
    E, Dec, {a_k} by a VQ-VAE on them           K codes a group: the anchors           _vqvae.py
    r_k = Dec(a_k), frozen                      the ratios each anchor stands for      _anchors.py _tables.py

Stage 2, beside the ranker, for a state x and a duration d; a_k are the anchors of d's group:

    h = φ(A_x x)      p_k = φ(A_a a_k)          one space for states and anchors       _head.py
    β = softmax_k( cos(h, p_k) / τ )            weight of each anchor                  _head.py
    ŵ = d · softplus( g(Σ_k β_k p_k) )          the prediction                         _head.py
    P* = argmin ⟨C, P⟩ + ε KL + κ KL            semi-relaxed transport plan of the     _transport_plan.py
       C = 1 - cos(h, p) + λ |F(r) - F(r_k)|    batch's rows to their anchors          _sinkhorn.py
    L = ℓ(ŵ, w) - λ_a mean Σ_k P̂*_k log β_k + λ_r rank(ŵ, w) + λ_s CRPS(F, r)           _head.py
    F(r) = Σ_k β_k F_k(r)                       the law of the ratio, F_k that of the  _tables.py
                                                training rows in anchor k's part

What is served is ŵ, β, and of F quantiles, mean and the probabilities of skip, complete view and replay; it
needs neither the plan nor the VQ-VAE.

Source: Xu et al., "Leveraging Label Distributions as Anchors to Enhance Video Recommendation" (poster; no
public code). Deviations, each with its reason where it is made: sequences from local windows on a log scale;
the rank distance in the transport cost; L1, the rank and a proper score of F in the loss; β from cosines.
"""

from training.lda._anchors import Anchors, AnchorsConfig, fit_anchors, random_anchors
from training.lda._codebook import k_means, nearest_codes
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
    "k_means",
    "nearest_codes",
    "random_anchors",
    "sample_sequences",
    "sinkhorn",
]
