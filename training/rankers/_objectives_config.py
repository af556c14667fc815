"""How a ranker of many objectives weighs them."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat

from training.config import Config


class ObjectivesConfig(Config):
    """Weights of the losses, and GradCraft's hyperparameters. Chosen on the early-stop split."""

    balancer: Literal["entropy", "gradcraft"] = "entropy"
    """`entropy`: a sum, see `entropy_weights`. `gradcraft`: the gradients over the encoder are balanced at
    every step, which takes a pass backward for each objective."""

    weight: PositiveFloat = 0.1
    """Of every objective besides watch time, whose own loss counts in full; read by `entropy`."""

    tau: PositiveFloat = 0.1
    """τ of GradCraft, see `training.balance.GradCraft`."""

    epsilon: PositiveFloat = 1e-10
    """ε of GradCraft."""
