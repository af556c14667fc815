"""Config of `compare language`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from training.config import Config
from training.experiments.config import ExperimentConfig
from training.language import LanguageConfig, SemanticIdsConfig, TransformerConfig

_Share = Annotated[float, Field(gt=0, lt=1)]


class PlantedConfig(Config):
    """Users whose next video is one that is popular with all, or one of their own topic, see `plant`."""

    users: PositiveInt = 1000
    topics: PositiveInt = 12
    topic_videos: PositiveInt = 20
    popular_videos: PositiveInt = 20
    views: Annotated[int, Field(ge=3)] = 10
    """Of a user; the last is the target of the evaluation."""
    popular: _Share = 0.6
    """Share of long views that are of popular videos, whatever the user's topic."""
    ids: SemanticIdsConfig = SemanticIdsConfig(levels=2, codes=16)
    learning: LanguageConfig = LanguageConfig(
        transformer=TransformerConfig(width=32, feedforward=64),
        effect_weight=0.5,
        length=10,
        epochs=12,
        batch=32,
        learning_rate=5e-3,
        average=0.95,
    )


class NextVideoConfig(ExperimentConfig):
    """Everything that decides the figures besides the log."""

    min_count: PositiveInt = 1
    targets: PositiveInt = 5200
    """At most so many long views of the test days, drawn at random."""
    beams: PositiveInt = 30
    exact: PositiveInt = 100
    """Targets whose beams are compared with the exact order."""
    tail: _Share = 0.8
    """Videos below this quantile of exposures are the long tail."""
    ids: SemanticIdsConfig = SemanticIdsConfig()
    learning: LanguageConfig = LanguageConfig()
    sasrec: LanguageConfig = LanguageConfig(
        transformer=TransformerConfig(dropout=0.1), effect_weight=0.0, last_weight=1.0, actions=False
    )
    planted: PlantedConfig = PlantedConfig()
