"""The whole config of one run, and the networks of the shapes it calls for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from models.features import SEQUENCE_ID_COLUMNS
from models.signals import NO_SIGNALS, Signals
from models.video_features import NO_VIDEO_FEATURES, VideoFeatures
from models.vocabulary import Vocabulary
from training.config import Config
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.labelcraft import LabelCraft, LabelCraftConfig
from training.labelcraft.closed_form import ClosedFormConfig, LabelSurface
from training.labels import LabelMaker, LabelMakers, Scale, heuristic_label_makers
from training.lda import LDA, LDAConfig
from training.rankers import (
    INTEREST,
    NAMES,
    WATCH_TIME,
    MultiObjectiveRanker,
    ObjectivesConfig,
    Ranker,
    TwoObjectiveRanker,
)
from training.train.rankers import TrainerConfig
from training.trees import TreesConfig


class RunConfig(Config):
    """Hyperparameters of a whole run; the functions of `training/train/recipes.py` return one."""

    test_days: PositiveInt = 2
    """The last days of the log, evaluated once."""
    stop_days: PositiveInt = 1
    """The days before them: when to stop, and the fusion weights."""
    meta_days: PositiveInt = 2
    """The days before those: the hold-out of the learner of one step, apart from early stopping."""
    min_count: PositiveInt = 2
    """Ids on fewer exposures share the unknown row."""
    learner: Literal["closed_form", "one_step"] = "closed_form"
    """Of the labels: a table learned through a recommender in closed form, or LabelCraft's network, learned
    through one step of a recommender's."""
    closed_form: ClosedFormConfig = ClosedFormConfig()
    """Read by its learner."""
    labelcraft: LabelCraftConfig = LabelCraftConfig()
    """Read by the learner of one step."""
    encoder: FeedbackEncoderConfig = FeedbackEncoderConfig()
    lda: LDAConfig = LDAConfig()
    loop: TrainerConfig = TrainerConfig()
    objectives: ObjectivesConfig | None = None
    """With it the ranker predicts every objective that the log allows; without, watch time and interest."""
    fusion_grid: tuple[PositiveFloat, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    """Weights of `interest` beside a `watch_time` of 1 that are tried on the early-stop days; with
    `objectives` see `search_fusion_weights` instead."""
    trees: TreesConfig | None = None
    """With it boosted trees are fitted on the same days, and the ranker is compared with them."""
    seed: int = 0


def new_encoder(
    config: FeedbackEncoderConfig,
    vocabulary: Vocabulary,
    numbers: tuple[str, ...],
    categories: tuple[str, ...],
    signals: Signals = NO_SIGNALS,
    video_features: VideoFeatures = NO_VIDEO_FEATURES,
) -> FeedbackEncoder:
    """Return an unfitted encoder of the sizes that a vocabulary, features and signals call for."""
    video, author, tag, tab = (vocabulary.size(f) for f in SEQUENCE_ID_COLUMNS)
    sizes = tuple(vocabulary.size(f"profile.{name}") for name in categories)
    values = tuple(vocabulary.size(field) for field in video_features.fields)
    return FeedbackEncoder(
        (video, author, tag, tab), len(numbers), sizes, config, signals, video_features, values
    )


def new_label_maker(config: RunConfig) -> LabelMaker:
    """Return the unfitted label maker of a config's learner."""
    if config.learner == "closed_form":
        return LabelSurface(config.closed_form)
    return LabelCraft(config.labelcraft)


def new_networks(
    config: RunConfig,
    vocabulary: Vocabulary,
    numbers: tuple[str, ...],
    categories: tuple[str, ...],
    signals: Signals = NO_SIGNALS,
    video_features: VideoFeatures = NO_VIDEO_FEATURES,
    refused: Collection[str] = (),
) -> tuple[LabelMakers, Ranker]:
    """Return unfitted networks of the shapes that a config and a vocabulary call for.

    Args:
        config: the run's.
        vocabulary: whose sizes the tables have.
        numbers, categories: names of the profile's features.
        signals: own signals of the log.
        video_features: its own features of videos.
        refused: names of the heuristic label makers to leave out.
    """
    torch.manual_seed(config.seed)
    encoder = new_encoder(config.encoder, vocabulary, numbers, categories, signals, video_features)
    ranker: Ranker
    if config.objectives is None:
        ranker = TwoObjectiveRanker(encoder, LDA(config.encoder.width, config.lda), Scale())
    else:
        names = NAMES if config.objectives.names is None else config.objectives.names
        objectives = (WATCH_TIME, INTEREST, *names, *(config.objectives.signals or ()))
        ranker = MultiObjectiveRanker(encoder, LDA(config.encoder.width, config.lda), Scale(), objectives)
    heuristics = [maker for maker in heuristic_label_makers(signals) if maker.name not in refused]
    return LabelMakers([new_label_maker(config), *heuristics]), ranker


def restore(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load a state whose tables may have other sizes: a table is as large as the data made it."""
    buffers = dict(module.named_buffers())
    for name, tensor in state.items():
        if name in buffers and buffers[name].shape != tensor.shape:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, torch.empty_like(tensor))
    module.load_state_dict(state)
    module.eval()
