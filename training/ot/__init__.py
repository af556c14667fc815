"""Entropic optimal transport: one solver, shared by SOFT top-k (LabelCraft) and the anchors of LDA."""

from training.ot._sinkhorn import sinkhorn
from training.ot._topk import relative_temperature, soft_top_k

__all__ = ["relative_temperature", "sinkhorn", "soft_top_k"]
