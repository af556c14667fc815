"""Boosted trees on the days of a fit: the baseline that a team would start with."""

from __future__ import annotations

import torch

from models.arrays import F32, I64
from models.vocabulary import Vocabulary
from training.data import Dataset, Interactions
from training.encoders import plain_names
from training.train.run_config import RunConfig, new_encoder
from training.trees import TreesConfig, features, fit_trees


def predict_by_trees(
    dataset: Dataset,
    vocabulary: Vocabulary,
    log: Interactions,
    rows: tuple[I64, I64, I64],
    config: RunConfig,
    trees: TreesConfig,
) -> F32:
    """Return `[R]` seconds of the test rows, by trees that are stopped early as the ranker is.

    Args:
        dataset: the log, with its profiles.
        vocabulary: of the fit.
        log: its exposures as arrays.
        rows: to fit on, to stop by, and to predict.
        config: the run's.
        trees: hyperparameters.
    """
    known, stop, test = rows
    numbers, categories = dataset.profile_numbers, dataset.profile_categories
    torch.manual_seed(config.seed)
    own = dataset.signals, dataset.video_features
    encoder = new_encoder(config.encoder, vocabulary, numbers, categories, *own)
    seen = encoder.fit_tables(log, known, dataset.censored(vocabulary))
    encoder.eval()
    length, watched = config.loop.sequence_length, log.watch_time_s
    fitted = fit_trees(
        "l1",
        (features(encoder, log, known, length, seen), watched[known]),
        (features(encoder, log, stop, length), watched[stop]),
        plain_names(numbers, categories, *own)[1],
        trees,
        seed=config.seed,
    )
    seconds: F32 = fitted.seconds(features(encoder, log, test, length)).astype("float32")
    return seconds
