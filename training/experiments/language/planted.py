"""Users with a topic among videos that are popular with all: how much a model uses the history."""

# Shape suffixes: U users, V videos, E long views.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.arrays import F32, I64, Bools
from models.vocabulary import FIRST
from training.experiments.language.config import PlantedConfig
from training.language import LongViews, SemanticIds, fit_semantic_ids


class Planted(NamedTuple):
    """Long views, those of the evaluation, and the videos' tokens."""

    views: LongViews
    target: I64
    """`[U]` the last long view of every user."""
    is_tail: Bools
    """`[V]` videos of a topic."""
    ids: SemanticIds


def plant(config: PlantedConfig, seed: int) -> Planted:
    """Draw users with one topic each, and what they watch.

    A long view is of a popular video with probability p, as often as 1 / (rank + 1), and otherwise of a video
    of the user's topic. Semantic ids are quantised from topic and noise.
    """
    random = np.random.default_rng(seed)
    users, views, popular = config.users, config.views, config.popular_videos
    tails = config.topics * config.topic_videos
    topic_U = random.integers(config.topics, size=users)
    chance = 1 / np.arange(2, popular + 2)
    popular_UE = random.choice(popular, size=(users, views), p=chance / chance.sum())
    own_UE = (
        random.integers(config.topic_videos, size=(users, views)) + topic_U[:, None] * config.topic_videos
    )
    is_popular_UE = random.random((users, views)) < config.popular
    video_UE = FIRST + np.where(is_popular_UE, popular_UE, popular + own_UE)
    count = users * views
    index_E = np.arange(count)
    topic_V = np.append(np.full(popular, config.topics), np.arange(tails) // config.topic_videos)
    videos = FIRST + len(topic_V)
    feature_VC: F32 = np.zeros((videos, config.topics + 1 + 8), np.float32)
    feature_VC[np.arange(FIRST, videos), topic_V] = 2.0
    feature_VC[:, -8:] = random.normal(size=(videos, 8)) / 2
    return Planted(
        LongViews(
            user=np.repeat(np.arange(users), views),
            video=video_UE.ravel(),
            action=np.zeros(count, np.int64),
            row=index_E,
            timestamp_ms=index_E,
        ),
        target=np.arange(users) * views + views - 1,
        is_tail=np.arange(videos) >= FIRST + popular,
        ids=fit_semantic_ids(feature_VC, np.arange(FIRST, videos), config.ids, seed=seed),
    )
