"""The base of every training config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Immutable, and an unknown knob is an error. The docstring under each field gives its meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")
