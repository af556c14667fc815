"""What is verified of a run that rows were taken out of, before it is written."""

# Shape suffixes: N rows of a log, R of them.

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from models.arrays import F32, F64, I64
from models.metrics import auc, mae_s, xauc
from training.data import Dataset, Interactions
from training.evaluation.predict import Outputs, run_torch
from training.rankers import Ranker, outcomes, outcomes_with
from training.train.fit import Windows

LARGEST_LOSS: Final[dict[str, float]] = {"mae_s": 0.01, "xauc": 0.005}
"""By how much the MAE may rise, as a share, and the XAUC fall: see `too_bad`."""
_PROBED: Final = 10_000
"""Rows of either side of the membership probe."""
_LEAST: Final = 1e-6

Figures = dict[str, float | None]


class Moved(NamedTuple):
    """Root mean square change of predictions."""

    log_seconds: float
    logit: float
    """Over all objectives with a probability."""


def verify(
    former: Ranker, ranker: Ranker, before: Windows, after: Windows, remaining: Dataset, length: int
) -> Figures:
    """Return figures before and after rows were taken out, by name.

    * `mae_s`, `xauc`: of the early-stop rows that remain.
    * `moved_log_seconds`, `moved_logit`: how far predictions of these rows moved.
    * `membership_auc`: how well the loss distinguishes rows that were taken out from rows of the same users,
      videos or authors in the days after, which neither ranker was fitted on; .5 is not at all, and days
      differ. `None` where there are no such rows. `membership_auc_remaining` is the same of as many rows that
      remain, which both rankers were fitted on.

    Args:
        former, ranker: evaluation fits with and without the rows.
        before, after: what they were fitted on.
        remaining: the data set of `after`.
        length: most steps of a sequence.
    """
    log = remaining.interactions(before.vocabulary, signals=before.log.signals)
    stop = log.rows_between(*_span(before))
    out_before, out_after = (
        run_torch(*of, length) for of in ((former, log, stop), (ranker, after.log, after.split.early_stop))
    )
    figures: Figures = {}
    for name, out, watched in (
        ("before", out_before, log.watch_time_s[stop]),
        ("after", out_after, after.log.watch_time_s[after.split.early_stop]),
    ):
        figures[f"mae_s_{name}"] = mae_s(out.watch_time_s, watched)
        figures[f"xauc_{name}"] = xauc(out.watch_time_s, watched)
    # Vocabularies order the rows of one moment.
    orders = order_of_rows(log, stop), order_of_rows(after.log, after.split.early_stop)
    moved = distance(*(out.take(order) for out, order in zip((out_before, out_after), orders, strict=True)))
    figures |= {f"moved_{name}": value for name, value in moved._asdict().items()}
    gone = taken_out(before, remaining)
    complete = before.dataset.interactions(after.vocabulary, signals=after.log.signals)
    sides = {"before": (former, before.log), "after": (ranker, complete)}
    masks = {"membership_auc": gone, "membership_auc_remaining": ~gone}
    for (name, mask), (when, (fitted, of)) in ((m, s) for m in masks.items() for s in sides.items()):
        aligned = _in_rows_of(of, before.log, mask)
        figures[f"{name}_{when}"] = _membership(fitted, of, aligned, before, length)
    return figures


def too_bad(figures: Mapping[str, float | None]) -> str | None:
    """Return in words what is worse than `LARGEST_LOSS` allows, if anything is."""
    mae, former_mae = figures["mae_s_after"], figures["mae_s_before"]
    order, former_order = figures["xauc_after"], figures["xauc_before"]
    if mae is not None and former_mae is not None and mae > former_mae * (1 + LARGEST_LOSS["mae_s"]):
        return f"the MAE of the early-stop days rises from {former_mae:.2f} to {mae:.2f} s"
    if order is not None and former_order is not None and order < former_order - LARGEST_LOSS["xauc"]:
        return f"the XAUC of the early-stop days falls from {former_order:.4f} to {order:.4f}"
    return None


def distance(first: Outputs, second: Outputs) -> Moved:
    """Return how far predictions of the same rows are apart."""
    names = [name for name in first.objectives if name != "watch_time"]
    logits = [_logit(first.objectives[name]) - _logit(second.objectives[name]) for name in names]
    seconds = np.log1p(first.watch_time_s) - np.log1p(second.watch_time_s)
    return Moved(_rms(seconds), _rms(np.concatenate([np.zeros(0), *logits])))


def taken_out(before: Windows, remaining: Dataset) -> npt.NDArray[np.bool_]:
    """Return which rows of a log a data set does not have, `[N]`."""
    keys = ["user_id", "timestamp_ms", "video_id"]
    gone = before.dataset.log.join(remaining.log.select(keys), on=keys, how="anti")
    return _marked(before.log, gone.select("user_id", "timestamp_ms", "watch_time_s", "duration_s"))


def _marked(log: Interactions, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
    columns = {
        "user_id": np.asarray(log.user_ids, object)[log.user],
        "timestamp_ms": log.timestamp_ms,
        "watch_time_s": log.watch_time_s,
        "duration_s": log.duration_s,
    }
    frame = pl.DataFrame(columns, schema_overrides={"user_id": pl.String})
    marks = rows.cast({"watch_time_s": pl.Float32, "duration_s": pl.Float32}).unique()
    marked = frame.join(marks.with_columns(gone=True), on=list(columns), how="left", maintain_order="left")
    found: npt.NDArray[np.bool_] = marked["gone"].fill_null(value=False).to_numpy()
    return found


def _in_rows_of(
    log: Interactions, former: Interactions, mask: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return a mask of the rows of one log for the same rows in the order of another."""
    every = np.arange(len(log))
    out = np.zeros(len(log), bool)
    out[every[order_of_rows(log, every)]] = mask[order_of_rows(former, every)]
    return out


def _membership(
    ranker: Ranker, log: Interactions, mask: npt.NDArray[np.bool_], before: Windows, length: int
) -> float | None:
    fitted_until, _ = _span(before)
    rows = np.flatnonzero(mask)
    random = np.random.default_rng(0)
    seen, later = rows[log.timestamp_ms[rows] < fitted_until], rows[log.timestamp_ms[rows] >= fitted_until]
    seen, later = (
        np.sort(random.choice(side, min(len(side), _PROBED), replace=False)) for side in (seen, later)
    )
    if not len(seen) or not len(later):
        return None
    return membership_auc(ranker, log, seen, later, length)


def membership_auc(ranker: Ranker, log: Interactions, rows: I64, others: I64, length: int) -> float | None:
    """Return how well the loss distinguishes rows from others, which have the greater one; .5 is not at all.

    Args:
        ranker: whose loss.
        log: with its vocabulary.
        rows: `[R]` that it was perhaps fitted on.
        others: `[R]` that it was not.
        length: of the sequences.
    """
    loss = [_row_losses(ranker, log, side, length) for side in (rows, others)]
    return auc(np.repeat([1, 0], [len(rows), len(others)]), -np.concatenate(loss))


def _row_losses(ranker: Ranker, log: Interactions, rows: I64, length: int) -> F64:
    """Return `[R]` |log error| of the seconds and the cross-entropy of every outcome, added up."""
    out = run_torch(ranker, log, rows, length)
    off = np.log1p(out.watch_time_s) - np.log1p(log.watch_time_s[rows])
    loss: F64 = np.abs(off.astype(np.float64))
    happened = outcomes(log.feedback[rows], log.signals)
    for t, outcome in enumerate(outcomes_with(log.signals)):
        if outcome.name in out.objectives:
            likely = np.clip(out.objectives[outcome.name].astype(np.float64), _LEAST, 1 - _LEAST)
            loss -= np.log(np.where(happened[:, t] > 0, likely, 1 - likely))
    return loss


def _span(windows: Windows) -> tuple[int, int]:
    """The early-stop days, as `rows_between` takes them."""
    return windows.boundaries.early_stop_ms, windows.boundaries.test_ms


def order_of_rows(log: Interactions, rows: I64) -> I64:
    """Return the order of rows by user, moment and what was watched, which is that of any vocabulary."""
    keys = (log.duration_s[rows], log.watch_time_s[rows], log.timestamp_ms[rows], log.user[rows])
    return np.lexsort(keys).astype(np.int64)


def _logit(probability: F32) -> F64:
    clipped = np.clip(probability.astype(np.float64), _LEAST, 1 - _LEAST)
    logit: F64 = np.log(clipped) - np.log1p(-clipped)
    return logit


def _rms(difference: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(difference)))) if len(difference) else 0.0
