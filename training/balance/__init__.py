"""Balancers: gradients of several objectives over what they share -> one update.

GradCraft is ours; equal weights, PCGrad, MGDA, CAGrad, IMTL-G and GradVac are TorchJD's weightings, which
have the same interface.
"""

from training.balance._gradcraft import Crafted, GradCraft, craft
from training.balance._step import Balancer, balanced_backward

__all__ = [
    "Balancer",
    "Crafted",
    "GradCraft",
    "balanced_backward",
    "craft",
]
