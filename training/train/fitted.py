"""The result of one fit, and what of it is written to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.manifest import LearnedLabels
from models.signals import Signals
from models.video_features import VideoFeatures
from models.vocabulary import Vocabulary
from training.data import Dataset
from training.labels import LabelMaker, LabelMakers
from training.rankers import Ranker
from training.train.checkpoints import State
from training.train.run_config import RunConfig, new_networks, restore


class Networks(NamedTuple):
    """Label makers and ranker."""

    label_makers: LabelMakers
    ranker: Ranker
    refused: dict[str, str]
    """Label makers that this log does not allow, and why."""

    def to_state(self) -> State:
        """Return the weights and tables of both."""
        return {
            "label_makers": self.label_makers.state_dict(),
            "ranker": self.ranker.state_dict(),
            "refused": self.refused,
        }

    @classmethod
    def from_state(
        cls,
        config: RunConfig,
        vocabulary: Vocabulary,
        numbers: tuple[str, ...],
        categories: tuple[str, ...],
        signals: Signals,
        video_features: VideoFeatures,
        state: Mapping[str, Any],
    ) -> Networks:
        """Return what `to_state` was called on; the other arguments are those of `new_networks`."""
        label_makers, ranker = new_networks(
            config, vocabulary, numbers, categories, signals, video_features, state["refused"]
        )
        restore(label_makers, state["label_makers"])
        restore(ranker, state["ranker"])
        return cls(label_makers, ranker, state["refused"])


@dataclass(frozen=True)
class Fitted:
    """The result of one fit: everything a bundle is exported from."""

    vocabulary: Vocabulary
    label_makers: LabelMakers
    ranker: Ranker
    weights: dict[str, float]
    learned_labels: LearnedLabels
    ranker_epochs: int
    curves: dict[str, list[dict[str, Any]]]
    refused: dict[str, str]
    """Label makers that this log does not allow, and why."""

    @property
    def networks(self) -> Networks:
        """Label makers and ranker."""
        return Networks(self.label_makers, self.ranker, self.refused)

    @property
    def labelcraft(self) -> LabelMaker:
        """The learned label maker, the first of `label_makers`."""
        return next(iter(self.label_makers))

    def to_state(self) -> State:
        """Return everything but the vocabulary, for a checkpoint."""
        return {
            **self.networks.to_state(),
            "weights": self.weights,
            "learned_labels": self.learned_labels.model_dump_json(),
            "ranker_epochs": self.ranker_epochs,
            "curves": self.curves,
        }

    @classmethod
    def from_state(cls, config: RunConfig, dataset: Dataset, vocabulary: Vocabulary, state: State) -> Fitted:
        """Return what `to_state` was called on."""
        numbers, categories = dataset.profile_numbers, dataset.profile_categories
        own = dataset.signals, dataset.video_features
        networks = Networks.from_state(config, vocabulary, numbers, categories, *own, state)
        return cls(
            vocabulary,
            networks.label_makers,
            networks.ranker,
            state["weights"],
            LearnedLabels.model_validate_json(state["learned_labels"]),
            state["ranker_epochs"],
            state["curves"],
            networks.refused,
        )
