"""Histograms of a bundle's answers on the rows it was fitted on, which a service measures drift by."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.arrays import I64
from models.histogram import Histogram
from models.manifest import DURATION, HISTORY_LENGTH, LABEL, MANIFEST, RANKED, WATCH_RATIO
from models.runtime import Bundle
from models.store import BundleStore
from models.vocabulary import PADDING
from training.data import Dataset, Interactions
from training.encoders import batches_for
from training.evaluation.predict import BATCH
from training.export.bundle import with_reference
from training.train.identity import same_log

ROWS: Final = 50_000
"""Exposures of the sample: chance then moves a share of 10 % by about 0.1 %."""

Column = npt.NDArray[Any]
"""`[N]` numbers of any kind."""


def reference(
    bundle: Bundle,
    log: Interactions,
    *,
    until_ms: int,
    seed: int = 0,
    rows: int = ROWS,
    on_step: Callable[[float], None] = lambda _: None,
) -> dict[str, Histogram]:
    """Return histograms of labels, predictions and inputs, by the names of `Manifest.reference`.

    Args:
        bundle: whose graphs are run.
        log: the data set it was fitted on, by its vocabulary.
        until_ms: the newest row that the weights have seen; later rows are left out.
        seed: which exposures are picked.
        rows: how many, at most. Each is a request of its own with the history the user had by then, as it
            would have been served.
        on_step: called with the share that is done.

    Raises:
        ValueError: no row is that old.
    """
    seen = log.rows_between(0, until_ms + 1)
    if len(seen) > rows:
        seen = np.sort(np.random.default_rng(seed).choice(seen, rows, replace=False))
    values: dict[str, Column] = {
        DURATION: log.duration_s[seen],
        WATCH_RATIO: log.watch_time_s[seen] / log.duration_s[seen],
    }
    labels = bundle.run_labeler({"feedback": log.feedback[seen], "group_ids": log.groups[seen]})
    values |= {LABEL + name: labels[name] for name in bundle.manifest.labels}
    values |= _ranked(bundle, log, seen, on_step)
    return {name: Histogram.from_values(column) for name, column in values.items()}


def republish(folder: Path, dataset: Dataset, to: Path, on_step: Callable[[float], None]) -> Path:
    """Write a version that exists once more, now with `reference`: the same graphs, another version.

    Raises:
        BundleError: the version in `folder` cannot be used.
        BadInput: `dataset` is not what it was fitted on, or this version is there already.
    """
    bundle = Bundle.load(folder, threads=2)
    training = bundle.manifest.training
    manifest = bundle.manifest
    log = same_log(dataset, training).interactions(
        bundle.vocabulary, manifest.profile_numbers, manifest.signals, manifest.video_features
    )
    found = reference(bundle, log, until_ms=training.watermark_ms, seed=training.seed, on_step=on_step)
    manifest = with_reference(manifest, found, datetime.now(UTC))
    with tempfile.TemporaryDirectory(prefix="reelrank-reference-") as made:
        staging = Path(made) / "bundle"
        staging.mkdir()
        for name in manifest.files:
            shutil.copyfile(folder / name, staging / name)
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        store = BundleStore(to)
        return store.path(store.publish(staging))


def _ranked(
    bundle: Bundle, log: Interactions, rows: I64, on_step: Callable[[float], None]
) -> dict[str, Column]:
    """What the ranker says of each row, and how long a history it says it from."""
    names = list(dict.fromkeys(("watch_time_s", "watch_ratio", *bundle.manifest.objectives)))
    length = bundle.manifest.sequence_length
    parts: dict[str, list[Column]] = {HISTORY_LENGTH: [], **{RANKED + name: [] for name in names}}
    for i, x in enumerate(batches_for(log, rows, length, batch=BATCH), 1):
        inputs = {name: tensor.numpy() for name, tensor in x._asdict().items()}
        out = bundle.run_ranker(inputs, names)
        parts[HISTORY_LENGTH].append((inputs["sequence_ids"][:, :, 0] != PADDING).sum(axis=1))
        for name in names:
            parts[RANKED + name].append(out[name][:, 0])
        on_step(min(1.0, i * BATCH / len(rows)))
    return {name: np.concatenate(column) for name, column in parts.items()}
