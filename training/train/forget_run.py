"""From a run and an unlearning ledger to a run without what the ledger names."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.errors import BadInput
from models.manifest import Forgetting, Training
from training.data import Dataset, Forgotten, load, read_ledgers, without
from training.provenance import commit
from training.staging import refuse_existing
from training.train import run_folder
from training.train.fit import OnEpoch, Progress
from training.train.forget import Fits, forget
from training.train.identity import is_log_of, same_log
from training.train.run_folder import METRICS, Saved
from training.train.verification import too_bad, verify


class Result(NamedTuple):
    """What became of a run."""

    training: Training
    remaining: Dataset
    """What it knows of."""
    written: bool
    """Whether there is a new run; `False` where `out`, or the run itself, has forgotten the same already."""


def forget_run(
    run: Path,
    data: Path,
    ledgers: Sequence[Path],
    out: Path,
    *,
    retrain: bool = False,
    progress: Progress,
    on_epoch: OnEpoch = lambda stage, epoch, figures: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Result:
    """Write a run without what ledgers name. The former run stays as it is.

    Args:
        run: what `fit` wrote.
        data: what it was fitted on.
        ledgers: everything that must be forgotten since then.
        out: a new folder, or one that this function has written from the same run and ledgers.
        retrain: fit the recipe on what remains, weights included.
        progress: called with the stage and the share of it that is done.
        on_epoch: called after each epoch of a new fit.
        on_note: called with what a reader should know, in a sentence.

    Raises:
        BadInput: an input cannot be read, `data` is not what the run was fitted on, rows were taken out of
            the run before, or predictions became worse.
    """
    began, at_commit = time.monotonic(), commit()
    saved: dict[run_folder.Which, Saved] = {
        "evaluation": run_folder.read(run, "evaluation"),
        "release": run_folder.read(run, "release"),
    }
    training, config = saved["release"].training, saved["release"].config
    note = json.loads((run / METRICS).read_text())
    forgotten = read_ledgers(ledgers)
    dataset = load(data)
    remaining = without(dataset, forgotten)
    rows = len(dataset.log) - len(remaining.log)
    former = training.forgetting
    if former is not None and former.method == "tables":
        if former.ledger == _digest(forgotten) and not retrain:
            return Result(training, remaining, written=False)
        raise BadInput(
            f"the weights of {run} were fitted on more rows than it knows of. Give the run that it was made "
            "from, with all lines of the ledger."
        )
    if _knows_no_more_than(training, remaining):
        return Result(training, remaining, written=False)
    same_log(dataset, training)
    if rows and not retrain:  # weights keep what they have learned
        info = remaining.info.model_copy(update={"forgotten_until_ms": training.forgotten_until_ms})
        remaining = Dataset(replace(remaining.tables, info=info))
    planned = Forgetting(
        method="retraining" if retrain else "tables" if rows else "none",
        weights=hashlib.sha256((run / "release.pt").read_bytes()).hexdigest(),
        ledger=_digest(forgotten),
        lines=len(set(forgotten.entries)),
        rows=rows,
        seconds=0.0,
        figures={},
    )
    if (out / METRICS).is_file():
        present = run_folder.read(out, "release").training
        unchanged = {"seconds": 0.0, "figures": {}}
        if present.forgetting is not None and present.forgetting.model_copy(update=unchanged) == planned:
            return Result(present, remaining, written=False)
    refuse_existing(out)
    took = _took(note.get("seconds"))
    if retrain:
        if saved["release"].fitted.learned_labels.likes_above_hates is not None:
            raise BadInput(
                f"the labels of {run} were learned from likes and hates of another log, too. Fit it again: "
                "`prepare --forget`, then `fit --likes-hates`."
            )
        run_folder.fit(
            remaining,
            training.recipe,
            config,
            out,
            progress,
            on_epoch=on_epoch,
            on_note=on_note,
            forgetting=planned,
        )
        return Result(run_folder.read(out, "release").training, remaining, written=True)
    fits = Fits(saved["evaluation"].fitted, saved["release"].fitted)
    evaluation = saved["evaluation"].evaluation
    figures: Mapping[str, float | None] = {}
    if rows:
        found = forget(dataset, remaining, config, fits, progress)
        progress("verify", 0.0)
        figures = verify(
            fits.evaluation.ranker,
            found.fits.evaluation.ranker,
            found.before,
            found.after,
            remaining,
            config.loop.sequence_length,
        )
        progress("verify", 1.0)
        fits, evaluation = found.fits, found.evaluation
        if worse := too_bad(figures):
            raise BadInput(f"{worse}: nothing was written. Fit without the rows: --retrain, which {took}.")
    done = planned.model_copy(update={"seconds": time.monotonic() - began, "figures": dict(figures)})
    run_folder.write(
        out,
        remaining,
        training.recipe,
        config,
        note["objectives_left_out"],
        at_commit,
        {"evaluation": fits.evaluation, "release": fits.release},
        evaluation,
        note.get("seconds"),
        done,
    )
    return Result(run_folder.read(out, "release").training, remaining, written=True)


def _knows_no_more_than(training: Training, remaining: Dataset) -> bool:
    """Whether a run was fitted on nothing but these rows, and knows the ledger as far as they do."""
    knows_ledger = (training.forgotten_until_ms or 0) >= (remaining.info.forgotten_until_ms or 0)
    return knows_ledger and is_log_of(training, remaining)


def _digest(forgotten: Forgotten) -> str:
    lines = sorted(msgspec.json.encode(entry) for entry in set(forgotten.entries))
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def _took(seconds: float | None) -> str:
    """How long the fit took, as the end of a sentence."""
    return (
        "takes as long as `fit` did" if seconds is None else f"takes about {max(1, round(seconds / 60))} min"
    )
