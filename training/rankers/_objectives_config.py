"""How a ranker of many objectives weighs them."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt, field_validator

from training.config import Config
from training.rankers._outcomes import OUTCOMES


class ObjectivesConfig(Config):
    """Weights of the losses, and GradCraft's hyperparameters. Chosen on the early-stop split."""

    names: tuple[str, ...] | None = None
    """Outcomes that are predicted beside watch time and interest, of `OUTCOMES`; `None` takes all that the
    log allows, see `least`."""

    signals: tuple[str, ...] | None = None
    """The same of own signals that are a yes or no."""

    least: PositiveInt = 50
    """Exposures of the days before the test days on which an outcome must have happened, and on which it must
    not have, to be predicted."""

    balancer: Literal["entropy", "gradcraft"] = "entropy"
    """`entropy`: a sum, see `entropy_weights`. `gradcraft`: the gradients over the encoder are balanced at
    every step, which takes a pass backward for each objective."""

    weight: PositiveFloat = 0.1
    """Of every objective besides watch time, whose own loss counts in full; read by `entropy`."""

    tau: PositiveFloat = 0.1
    """τ of GradCraft, see `training.balance.GradCraft`."""

    epsilon: PositiveFloat = 1e-10
    """ε of GradCraft."""

    @field_validator("names")
    @classmethod
    def _are_outcomes(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = [outcome.name for outcome in OUTCOMES]
        unknown = sorted(set(names or ()) - set(known))
        if unknown:
            raise ValueError(f"there is no outcome {unknown[0]!r}; there are {', '.join(known)}")
        return names
