"""Everything that decides the figures of a comparison of heads besides the log."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt

from training.config import Config
from training.data import Protocol
from training.encoders import FeedbackEncoderConfig
from training.experiments.config import ExperimentConfig
from training.lda import LDAConfig
from training.train.rankers import TrainerConfig
from training.train.recipes import any_log
from training.trees import TreesConfig


class Hyperparameters(Config):
    """What a method changes of the experiment's config, nested as it is; `compare search` chooses them."""

    encoder: dict[str, Any] = Field(default_factory=dict)
    loop: dict[str, Any] = Field(default_factory=dict)
    head: dict[str, Any] = Field(default_factory=dict)
    """Of the head's own config."""
    trees: dict[str, Any] = Field(default_factory=dict)
    rank: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the rank loss beside the head's own loss; heads that have it as an option take it there."""


class WatchTimeConfig(ExperimentConfig):
    """Hyperparameters of `compare watch-time`."""

    windows: PositiveInt = 3
    """Of the rolling origin, at most: the last ones that leave a day to fit on. Each has `test_days`, and
    nothing is fitted on its days or later ones. Defaults, which hold for what is not in
    `chosen`, were chosen on KuaiRand-Pure's last early-stop day: a test day of an older window there."""
    all_tabs: bool = False
    """Report every tab; otherwise the dataset's main tab, where it names one."""
    protocol: Protocol | None = None
    """A published way of cutting a public log, instead of by days and tab; see `training.data`."""
    encoder: FeedbackEncoderConfig = Field(default_factory=lambda: any_log().encoder)
    """Of every head; by default as in the released bundle."""
    loop: TrainerConfig = Field(
        default_factory=lambda: any_log().loop.model_copy(update={"interest": 0.0, "counterfactual": 0.0})
    )
    """Steps, batches and rate of every head; of watch time alone."""
    lda: LDAConfig = Field(default_factory=lambda: any_log().lda)
    """By default as in the released bundle."""
    trees: TreesConfig = TreesConfig()
    """Of every target of boosted trees."""
    chosen: dict[str, Hyperparameters] = Field(default_factory=dict)
    """By fit, what differs from the above. A record of `compare search` has it."""

    def quick(self) -> Self:
        """Return the same with one window, one seed, two epochs and few trees."""
        chosen = {
            fit: own.model_copy(update={"loop": {k: v for k, v in own.loop.items() if k != "epochs"}})
            for fit, own in self.chosen.items()
        }
        loop = self.loop.model_copy(update={"epochs": 2})
        trees = self.trees.model_copy(update={"rounds": 100})
        update = {"windows": 1, "seeds": 1, "loop": loop, "trees": trees, "chosen": chosen}
        return self.model_copy(update=update)
