"""What decides the figures of a comparison of ways to forget."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from training.config import Config
from training.experiments.config import ExperimentConfig


class FitConfig(Config):
    """How one model is fitted."""

    width: PositiveInt = 16
    """Of an embedding, besides its bias."""
    penalty: PositiveFloat = 4.0
    """λ of λ/2 ‖table‖² beside the summed loss."""
    epochs: PositiveInt = 12
    batch_size: PositiveInt = 2048
    learning_rate: PositiveFloat = 0.01
    """Of Adam at first; it falls to 0 along a cosine."""


class InfluenceConfig(Config):
    """The influence update of one model."""

    damping: NonNegativeFloat = 0.3
    """δ, beside the penalty."""
    quantile: float = Field(0.0, ge=0, lt=1)
    """Share of the nodes a removal reaches whose rows are left as they are."""
    tolerance: PositiveFloat = 0.1
    """Of conjugate gradients."""
    max_iterations: PositiveInt = 50


class ModelConfig(Config):
    """One model: its fit, and how it forgets."""

    fit: FitConfig = FitConfig()
    influence: InfluenceConfig = InfluenceConfig()


class ForgettingConfig(ExperimentConfig):
    """Everything that decides the figures besides the log."""

    core: PositiveInt = 5
    """Train rows that each user and each video has at least."""
    matrix_factorisation: ModelConfig = ModelConfig()
    light_gcn: ModelConfig = ModelConfig(
        fit=FitConfig(penalty=3.0, batch_size=4096), influence=InfluenceConfig(quantile=0.8)
    )
    flipped: float = Field(0.02, gt=0, lt=0.5)
    """Share of the train rows whose label is wrong: what is forgotten first."""
    users: float = Field(0.01, gt=0, lt=0.5)
    """Share of the users that is forgotten."""
    fine_tuning_epochs: PositiveInt = 2
    ascent_steps: PositiveInt = 10
    """Of the negative gradient."""
    ascent_rate: PositiveFloat = 0.05
    dampings: tuple[NonNegativeFloat, ...] = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
    """What the report tries of each model's damping. The residual decides, so no label outside the train rows
    is read."""
    shards: PositiveInt = 4
    """Of SISA."""

    def quick(self) -> ForgettingConfig:
        """Return the same with one seed and two epochs a fit."""
        fits = {
            name: model.model_copy(update={"fit": model.fit.model_copy(update={"epochs": 2})})
            for name, model in (
                ("matrix_factorisation", self.matrix_factorisation),
                ("light_gcn", self.light_gcn),
            )
        }
        return self.model_copy(update={"seeds": 1, "resamples": 200} | fits)
