"""What decides the result of a fit: two with the same identity end with the same weights."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl
import torch

from models.errors import BadInput
from models.manifest import Training
from training.data import Dataset, LikesHates
from training.provenance import code_digest
from training.train.run_config import RunConfig


def same_log(dataset: Dataset, training: Training) -> Dataset:
    """Return `dataset` if it is the one that was fitted on.

    Raises:
        BadInput: it has another name, another number of rows, or ends at another moment.
    """
    info = dataset.info
    if not is_log_of(training, dataset):
        raise BadInput(
            f"the run was fitted on {training.rows:,} rows of {training.dataset} up to "
            f"{training.watermark_ms}, --data holds {len(dataset.log):,} of {info.dataset} up to "
            f"{info.last_timestamp_ms}. Give the folder that `fit` was given."
        )
    return dataset


def is_log_of(training: Training, dataset: Dataset) -> bool:
    """Return whether a data set has the name, the rows and the last moment of what was fitted on."""
    fitted = (training.dataset, training.rows, training.watermark_ms)
    return (dataset.info.dataset, len(dataset.log), dataset.info.last_timestamp_ms) == fitted


def fit_identity(
    dataset: Dataset, recipe: str, config: RunConfig, likes_hates: LikesHates | None = None
) -> dict[str, Any]:
    """Return recipe, config, threads, and digests of the tables and of the code, as JSON."""
    tables = dataset.tables
    frames = {
        "interactions": tables.interactions,
        "users": tables.users,
        "videos": tables.videos,
        "history": tables.history,
    }
    return {
        "recipe": recipe,
        "config": config.model_dump(mode="json"),
        "data": {name: _digest(frame) for name, frame in frames.items() if frame is not None},
        "days": tables.info.model_dump(mode="json", include={"utc_offset_hours", "main_tab"}),
        "likes_hates": None if likes_hates is None else _digest_of_rows(likes_hates),
        "threads": torch.get_num_threads(),
        "code": code_digest(),
    }


def _digest(frame: pl.DataFrame) -> str:
    schema = repr(frame.schema).encode()
    return hashlib.sha256(schema + frame.hash_rows(seed=0).to_numpy().tobytes()).hexdigest()


def _digest_of_rows(rows: LikesHates) -> str:
    columns = (rows.log.user, rows.log.feedback, rows.liked)
    return hashlib.sha256(b"".join(np.ascontiguousarray(column).tobytes() for column in columns)).hexdigest()
