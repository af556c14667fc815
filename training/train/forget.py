"""Take rows out of the tables of a fitted run, without fitting it anew.

    1  tables      of the remaining rows: label makers, percentiles, statistics, anchors' shares, calibration
    2  vocabulary  of the remaining rows: ids that are left without rows go, with their embeddings

Both fits of a run, so that the figures are still those of a fit on earlier days. Every other weight stays
bit-identical, and so does what was chosen or learned over all users: learned labels, anchors, fusion weights,
the number of epochs, and the scales through which layers read their inputs. Only a new fit forgets in those.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from models.arrays import I64
from models.errors import BadInput
from models.manifest import Evaluation
from models.vocabulary import FIRST, Vocabulary
from training.data import Boundaries, Dataset
from training.encoders import FeedbackEncoder
from training.labels import LabelMaker, LabelMakers, fit_heuristics, labels_of
from training.lda import LDA
from training.rankers import MultiObjectiveRanker
from training.train.calibration import calibrate
from training.train.fit import (
    Progress,
    Windows,
    cut_windows,
    evaluate_fit,
    evaluation_boundaries,
    release_boundaries,
)
from training.train.fitted import Fitted
from training.train.run_config import RunConfig, new_encoder

_SCALES: Final = (
    "number_mean",
    "number_std",
    "own.mean",
    "own.std",
    "tables.statistics.scale",
    "user_scale",
    "match_scale",
)
"""Tables of an encoder that its weights were fitted to read through."""


class Fits(NamedTuple):
    """Both fits of a run."""

    evaluation: Fitted
    release: Fitted


class WithoutRows(NamedTuple):
    """Both fits without some rows."""

    fits: Fits
    evaluation: Evaluation
    """Of the evaluation fit on the test days."""
    before: Windows
    """What the evaluation fit had been fitted on."""
    after: Windows
    """What is left of it."""


def forget(
    dataset: Dataset, remaining: Dataset, config: RunConfig, fits: Fits, progress: Progress
) -> WithoutRows:
    """Take rows out of both fits of a run.

    Args:
        dataset: what the run was fitted on.
        remaining: the same without the rows.
        config: the run's.
        fits: the run's; they are left as they are.
        progress: called with the stage and the share of it that is done.

    Raises:
        BadInput: what remains is too little to fit on.
    """

    def cut(boundaries: Boundaries) -> tuple[Windows, Windows]:
        return cut_windows(dataset, config, boundaries), cut_windows(remaining, config, boundaries)

    boundaries = evaluation_boundaries(dataset, config)
    before, after = cut(boundaries)
    for name, rows in (("early-stop", after.split.early_stop), ("test", after.split.test)):
        if not len(rows):
            raise BadInput(f"no exposures remain in the {name} days; fit a longer log without the rows.")
    progress("1/2 tables", 0.0)
    evaluated = forget_in(fits.evaluation, before, after, config)
    if isinstance(evaluated.ranker, MultiObjectiveRanker):
        stop = after.split.early_stop
        label = labels_of(evaluated.labelcraft, after.log.take(stop))
        calibrate(evaluated.ranker, after.log, stop, config.loop.sequence_length, label)
    progress("2/2 tables", 0.0)
    released = forget_in(fits.release, *cut(release_boundaries(dataset, config)), config)
    progress("2/2 tables", 1.0)
    if isinstance(released.ranker, MultiObjectiveRanker):
        platt = cast(MultiObjectiveRanker, evaluated.ranker).platt
        released.ranker.platt.load_state_dict(platt.state_dict())
    evaluation = evaluate_fit(after, config, evaluated, boundaries.test_ms, None)
    return WithoutRows(Fits(evaluated, released), evaluation, before, after)


def forget_in(fitted: Fitted, before: Windows, after: Windows, config: RunConfig) -> Fitted:
    """Take rows out of one fit.

    Args:
        fitted: it is left as it is.
        before: what it was fitted on.
        after: what is left of it.
        config: the run's.
    """
    known = after.log.take(after.known)
    heuristics, refused = fit_heuristics(known)
    makers: list[LabelMaker] = [fitted.labelcraft, *heuristics]
    ranker = copy.deepcopy(fitted.ranker)
    numbers, categories = after.dataset.profile_numbers, after.dataset.profile_categories
    own = after.dataset.signals, after.dataset.video_features
    ranker.encoder = new_encoder(config.encoder, after.vocabulary, numbers, categories, *own)
    _carry_weights(fitted.ranker.encoder, ranker.encoder, rows_by_table(fitted, after))
    ranker.scale.fit(known.watch_time_s)
    cast(LDA, ranker.head).refit_tables(known)
    video_rows = rows_by_field(fitted.vocabulary, after.vocabulary)["video_id"]
    _fit_tables_of(ranker.encoder, fitted.ranker.encoder, before, after, video_rows)
    ranker.eval()
    return replace(
        fitted,
        vocabulary=after.vocabulary,
        label_makers=LabelMakers(makers).fit_percentiles(known),
        ranker=ranker,
        refused=refused,
    )


def rows_by_field(former: Vocabulary, vocabulary: Vocabulary) -> dict[str, I64]:
    """Return for each row of a vocabulary the row of the same id in a larger one, by field."""
    reserved = np.arange(FIRST)
    return {
        field: np.concatenate([reserved, former.encode(field, list(ids))]).astype(np.int64)
        for field, ids in vocabulary.fields.items()
    }


def rows_by_table(fitted: Fitted, after: Windows) -> dict[str, I64]:
    """Return for each row of an encoder's embeddings the row of the same id in those of a fit on more rows.

    Args:
        fitted: the fit on more rows.
        after: whose vocabulary the encoder is for.

    Returns:
        By the name of the parameter.
    """
    rows, former = rows_by_field(fitted.vocabulary, after.vocabulary), fitted.ranker.encoder

    def stacked(fields: Iterable[str], offset: Tensor) -> I64:
        """Rows of a table that holds several fields, each at an offset."""
        starts = offset.flatten().tolist()
        parts = [rows[field] + start for field, start in zip(fields, starts, strict=True)]
        return np.concatenate(parts) if parts else np.zeros(1, np.int64)

    profile = [f"profile.{name}" for name in after.dataset.profile_categories]
    of_table = {
        "tables.video.weight": rows["video_id"],
        "tables.author.weight": rows["author_id"],
        "tables.tag.weight": rows["tag"],
        "tables.tab.weight": rows["tab"],
        "tables.category.weight": stacked(profile, former.tables.category_offset),
    }
    if former.own is not None:
        of_table["own.table.weight"] = stacked(after.dataset.video_features.fields, former.own.offset)
    return of_table


def _carry_weights(former: FeedbackEncoder, encoder: FeedbackEncoder, rows: Mapping[str, I64]) -> None:
    """Take over parameters: embeddings of ids that are still known, everything else as it is."""
    known = dict(former.named_parameters())
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            row = rows.get(name)
            parameter.copy_(known[name] if row is None else known[name][torch.from_numpy(row)])


def _fit_tables_of(
    encoder: FeedbackEncoder, former: FeedbackEncoder, before: Windows, after: Windows, video_rows: I64
) -> None:
    """Fit the tables to what remains, in the coordinates that the weights know."""
    encoder.fit_tables(after.log, after.known, after.dataset.censored(after.vocabulary))
    tables = dict(former.named_buffers())
    for name, table in encoder.named_buffers():
        if name.startswith(_SCALES):
            table.copy_(tables[name])
    encoder.co_visitation.refit(
        after.log, after.known, former.co_visitation, before.log, before.known, video_rows
    )
