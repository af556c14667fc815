"""The labels of a whole log, by any bundle: what another model is trained on."""

# Shape suffixes: N rows of a batch.

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import polars as pl

from models.arrays import F32, I64
from models.errors import BadInput
from models.features import Array, group_matrix, user_group
from models.manifest import PERCENTILES
from models.runtime import Bundle
from models.vocabulary import UNKNOWN
from training.data import feedback_columns, profile_feature, scan_interactions
from training.data.readers import with_signal_names

BATCH_ROWS: Final = 262_144
"""Rows in memory at a time: some 100 MB with every label."""

KEYS: Final = ("user_id", "video_id", "timestamp_ms")
"""Columns that say which exposure a row is."""


class Labelled(NamedTuple):
    """What was written."""

    rows: int
    labels: tuple[str, ...]
    version: str
    """Of the bundle."""


def label_log(
    bundle: Bundle,
    data: Path,
    out: Path,
    *,
    labels: Sequence[str] = (),
    note: dict[str, str] | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
    batch_rows: int = BATCH_ROWS,
) -> Labelled:
    """Write the labels of every row of a log, in the order of the log, a batch at a time.

    The values are those `POST /label` answers for the same events: the same graph, groups by the same
    vocabulary. Memory does not grow with the log.

    Args:
        bundle: whose labels.
        data: a folder with `interactions.parquet`, and `users.parquet` for labels that group users.
        out: a parquet file that does not exist yet: `user_id, video_id, timestamp_ms`, then a float32 column
            for each label, and beside it `<label>_percentile` if the bundle knows them. It appears whole or
            not at all.
        labels: which; none means all that the bundle serves.
        note: goes into the file's metadata beside the bundle's version.
        on_progress: called with the share of the rows that is done.
        batch_rows: rows at a time.

    Raises:
        BadInput: `out` exists, the bundle does not serve a label, or a row of the log breaks its rules; the
            message names the first.
    """
    names = chosen_labels(bundle, labels)
    if out.exists():
        raise BadInput(f"{out} exists already; name a new file, or remove it first.")
    groups = GroupIds.of_log(bundle, data, names)
    log = scan_interactions(data, batch_rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Parquet files cannot be appended to: batches are written one by one and then streamed into one file.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        done = 0
        for number, part in enumerate(log.batches):
            labelled = label_rows(bundle, part, names, groups(part))
            labelled.write_parquet(Path(folder) / f"{number:08d}.parquet")
            done += len(part)
            on_progress(0.95 * done / log.rows)
        whole = Path(folder) / "whole"
        metadata = {"reelrank.bundle": bundle.manifest.version, **(note or {})}
        pl.scan_parquet(f"{folder}/*.parquet").sink_parquet(whole, metadata=metadata)
        whole.rename(out)
    on_progress(1.0)
    return Labelled(done, names, bundle.manifest.version)


def label_rows(bundle: Bundle, rows: pl.DataFrame, names: Sequence[str], group_ids: I64) -> pl.DataFrame:
    """Return the columns that `label_log` writes, of N rows of a log.

    Args:
        bundle: whose labels.
        rows: as `scan_interactions` yields them.
        names: of the labels.
        group_ids: `[N, 2]`, as `GroupIds` returns them.
    """
    served = bundle.manifest.labels
    feedback = feedback_columns(rows, bundle.manifest.signals)
    outputs = (*names, *bundle.labeler_outputs & {PERCENTILES})
    found = bundle.run_labeler({"feedback": feedback, "group_ids": group_ids}, outputs)
    columns: dict[str, Array] = {}
    for name in names:
        columns[name] = found[name].clip(0.0, 1.0)
        if PERCENTILES in found:
            columns[f"{name}_percentile"] = found[PERCENTILES][:, served.index(name)]
    return rows.select(*KEYS).with_columns(
        pl.Series(name, column, pl.Float32) for name, column in columns.items()
    )


def label_exposures(bundle: Bundle, exposures: pl.DataFrame, name: str) -> F32:
    """Return the labels of exposures in memory, `[N]`, in [0, 1].

    Args:
        bundle: whose labels.
        exposures: as `served_exposures` returns them.
        name: of the label.

    Raises:
        BadInput: the bundle does not serve the label, or the label needs profiles of users, which a served
            log does not have.
    """
    manifest = bundle.manifest
    if name not in manifest.labels:
        raise BadInput(
            f"bundle {manifest.version} has no label {name!r}; it has {', '.join(manifest.labels)}."
        )
    if name in manifest.labels_by_user:
        raise BadInput(f"label {name!r} groups users by their profiles, which a served log does not have.")
    feedback = feedback_columns(with_signal_names(exposures), manifest.signals)
    group_ids = group_matrix(bundle.vocabulary.encode("tag", exposures["tag"].to_list()), UNKNOWN)
    label = bundle.run_labeler({"feedback": feedback, "group_ids": group_ids}, [name])[name]
    return label.clip(0.0, 1.0).astype(np.float32)


def chosen_labels(bundle: Bundle, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of labels without repetitions; none means all that the bundle serves.

    Raises:
        BadInput: the bundle does not serve one.
    """
    served = bundle.manifest.labels
    for name in labels:
        if name not in served:
            raise BadInput(f"--labels names {name!r}; this bundle serves {', '.join(served)}.")
    return tuple(dict.fromkeys(labels)) or served


class GroupIds:
    """Groups of a log's rows, as `models.features.group_ids` returns them for events.

    Args:
        bundle: whose groups.
        values: by user, of the feature that groups users; see `grouping_feature`.
    """

    def __init__(self, bundle: Bundle, values: Mapping[str, str | float]) -> None:
        self._vocabulary = bundle.vocabulary
        categories = bundle.manifest.profile_categories
        self._user_group = {
            user: user_group({categories[0]: value}, categories, bundle.vocabulary)
            for user, value in values.items()
        }

    @classmethod
    def of_log(cls, bundle: Bundle, data: Path, names: Sequence[str]) -> Self:
        """Read the users of a log, all with a profile into memory, if a label needs them."""
        feature = grouping_feature(bundle, names)
        return cls(bundle, {} if feature is None else profile_feature(data, feature))

    def __call__(self, part: pl.DataFrame) -> I64:
        """`[N, 2]`"""
        tag_N = self._vocabulary.encode("tag", part["tag"].to_list())
        if not self._user_group:
            return group_matrix(tag_N, UNKNOWN)
        return group_matrix(
            tag_N, [self._user_group.get(user, UNKNOWN) for user in part["user_id"].to_list()]
        )


def grouping_feature(bundle: Bundle, names: Sequence[str]) -> str | None:
    """Return the profile feature that groups users, if one of the labels needs it."""
    categories = bundle.manifest.profile_categories
    needed = bool(categories) and not set(names).isdisjoint(bundle.manifest.labels_by_user)
    return categories[0] if needed else None
