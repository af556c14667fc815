"""Labels of a log, from a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from training.api._log import Log, read_log, written
from training.evaluation.evaluate import open_bundle
from training.export.batch_label import label_log


def label(log: Any, bundle: str | Path, labels: Sequence[str] = ()) -> pl.DataFrame:
    """Label every exposure of a log, as `python -m training label` and `POST /label` do.

    Args:
        log: a `Log`, or what `read_log` takes.
        bundle: a version's folder, or a folder of versions, whose active one is taken.
        labels: names; by default all that the bundle has.

    Returns:
        `user_id`, `video_id`, `timestamp_ms`, and for each label a column in [0, 1] and `<label>_percentile`,
        in the order of `Log.frame`.

    Raises:
        BadInput: the log cannot be read, or the bundle has no such label.
    """
    log = log if isinstance(log, Log) else read_log(log)
    with written(log) as data, tempfile.TemporaryDirectory(prefix="reelrank-labels-") as folder:
        out = Path(folder) / "labels.parquet"
        label_log(open_bundle(Path(bundle)), data, out, labels=labels)
        return pl.read_parquet(out)
