"""The base of every training config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Immutable hyperparameters; unknown names are errors. The docstring under a field gives its meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")
