"""The layers in front of every head but LDA's, so that a comparison compares methods and not sizes."""

from __future__ import annotations

from torch import nn


def one_hidden_layer(state_dim: int, hidden: int, outputs: int = 1) -> nn.Module:
    """Return a layer of `hidden` GELUs and a linear one, `[..., D]` -> `[..., outputs]`; 0 for none."""
    if not hidden:
        return nn.Linear(state_dim, outputs)
    return nn.Sequential(nn.Linear(state_dim, hidden), nn.GELU(), nn.Linear(hidden, outputs))
