"""What decides the figures of a comparison of ways to forget in the served ranker."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from training.experiments.config import ExperimentConfig
from training.train.recipes import kuairand_objectives, smoke
from training.train.run_config import RunConfig


def reduced_recipe() -> RunConfig:
    """Return the released recipe with a label table and anchors that take seconds, an epoch less, and no
    counterfactual rows: its loss is then a sum over rows."""
    recipe, briefly = kuairand_objectives(), smoke()
    return recipe.model_copy(
        update={
            "closed_form": briefly.closed_form,
            "lda": recipe.lda.model_copy(update={"anchors": briefly.lda.anchors}),
            "loop": recipe.loop.model_copy(update={"counterfactual": 0.0, "epochs": 3}),
        }
    )


class RankerForgettingConfig(ExperimentConfig):
    """Everything that decides the figures besides the log."""

    seeds: PositiveInt = 3
    sample: PositiveInt = 2500
    """Users, the same for every seed."""
    run: RunConfig = Field(default_factory=reduced_recipe)
    """The recipe, whose days and counts are those of the experiment."""
    wrong: float = Field(0.05, gt=0, lt=0.25)
    """Share of the train rows with the feedback of other rows."""
    share: float = Field(0.01, gt=0, lt=0.25)
    """Of the users, and of the videos, that are forgotten."""
    curvature_rows: PositiveInt = 1024
    """Remaining rows that stand for all of them in the curvature and in the residual."""
    tolerance: PositiveFloat = 0.05
    """Of conjugate gradients."""
    max_iterations: PositiveInt = 10
    """Products with the curvature."""
    fine_tuning_rate: PositiveFloat = 3e-4
    """AdamW's, for one epoch on the remaining rows."""

    def recipe(self, seed: int) -> RunConfig:
        """Return the recipe of a seed."""
        days = {"test_days": self.test_days, "stop_days": self.stop_days, "min_count": self.min_count}
        return self.run.model_copy(update=days | {"seed": seed})
