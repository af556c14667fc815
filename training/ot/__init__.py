"""Entropic optimal transport: one solver, shared by SOFT top-k (LabelCraft) and the anchors of LDA."""

from training.ot._sinkhorn import sinkhorn

__all__ = ["sinkhorn"]
