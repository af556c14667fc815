"""Hyperparameters of Q-learning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from training.config import Config

Share = Annotated[float, Field(ge=0, le=1)]


class QLearningConfig(Config):
    """Returns, losses and the loop."""

    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Discount a step. 0 is a policy that looks at the next reward alone."""

    next_session: Share = 0.0
    """What a user's next session counts, times `gamma`. 0 ends the return with the session."""

    n: PositiveInt = 3
    """Steps of a return before the rest of it is estimated."""

    double: bool = True
    """Whether the best next video is chosen by one network and valued by another."""

    importance_limit: NonNegativeFloat = 1.0
    """Bound of the ratio with which a logged later step counts, see `retrace`. 0 leaves one step."""

    conservative: NonNegativeFloat = 0.1
    """Weight α of `conservative_loss`."""

    self_supervised: NonNegativeFloat = 0.1
    """Weight of `self_supervised_loss` on the shared layers."""

    hidden: PositiveInt = 32
    """Width of the layers."""

    batch: PositiveInt = 256
    updates: PositiveInt = 1500
    """Minibatches."""

    learning_rate: PositiveFloat = 3e-3
    average: Share = 0.98
    """Share of the target network that remains after an update."""
