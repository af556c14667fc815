"""`compare search`: hyperparameters of every method by a Parzen estimator, the same number of trials each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from models.errors import BadInput
from training.experiments.data import ExperimentData, dataset_summary
from training.experiments.engine import digest, partial_path, write_report
from training.experiments.jobs import Checkpoint, Job, Outcome, Progress, Result, Work, run_jobs
from training.experiments.watch_time.config import Hyperparameters, WatchTimeConfig
from training.experiments.watch_time.evaluator import describe_window
from training.experiments.watch_time.fits import fit_window
from training.experiments.watch_time.methods import FITS, Fit
from training.experiments.watch_time.windows import load_first_window
from training.provenance import provenance
from training.staging import refuse_existing

EVALUATED_ON: Final = {"evaluated on": "the early-stop days"}
SEARCHED: Final = tuple(f for f in FITS.values() if not f.chosen_as and (f.head or f.trees))
"""The fits with hyperparameters of their own."""
_STARTUP_TRIALS: Final = 8
"""Trials at random before the sampler uses what it has seen."""

Changes = dict[str, dict[str, Any]]


def select_fits(names: str | None) -> tuple[Fit, ...]:
    """Return the fits that a command names, separated by commas; all of `SEARCHED` without.

    Raises:
        BadInput: a name that no fit has.
    """
    chosen = [name.strip() for name in (names or "").split(",") if name.strip()]
    known = {fit.name: fit for fit in SEARCHED}
    for name in chosen:
        if name not in known:
            raise BadInput(f"there is no fit {name!r} to search; there are {', '.join(known)}.")
    return tuple(known[name] for name in dict.fromkeys(chosen)) or SEARCHED


def suggest(trial: optuna.Trial, fit: Fit, *, epochs: bool = True) -> Hyperparameters:
    """Return one point of a fit's space: what of encoder and loop decides how soon a fit overfits and the
    rank loss, the same for all heads, and the options that each method leaves open.

    Args:
        trial: draws it.
        fit: one of `SEARCHED`.
        epochs: whether the number of epochs is searched.
    """
    changes: Changes = {"encoder": {}, "loop": {}, "head": {}, "trees": {}}
    for name, choose in (_TREES if fit.trees else {**_COMMON, **OWN.get(fit.name, {})}).items():
        part, _, option = name.partition(".")
        if epochs or name != "loop.epochs":
            _set_option(changes[part], option, choose(trial, name))
    rank = 0.0
    if not fit.trees and trial.suggest_categorical("rank", ("off", "on")) == "on":
        rank = trial.suggest_float("rank.weight", 0.3, 10.0, log=True)
    if fit.name == "lda":  # an option of its own
        changes["head"]["rank"], rank = rank, 0.0
    return Hyperparameters(**changes, rank=rank)


def _set_option(content: dict[str, Any], name: str, value: Any) -> None:
    """Set a value by a name with dots."""
    first, _, rest = name.partition(".")
    if rest:
        _set_option(content.setdefault(first, {}), rest, value)
    else:
        content[first] = value


Choose = Callable[[optuna.Trial, str], Any]


def _among(*values: Any) -> Choose:
    return lambda trial, name: trial.suggest_categorical(name, values)


def _between(low: float, high: float, *, log: bool = False) -> Choose:
    return lambda trial, name: trial.suggest_float(name, low, high, log=log)


_COMMON: Final[Mapping[str, Choose]] = {
    "encoder.dropout": _between(0.1, 0.5),
    "encoder.id_dropout": _between(0.1, 0.7),
    "loop.epochs": _among(3, 4, 5, 6),
    "loop.learning_rate": _between(4e-4, 2e-3, log=True),
    "loop.weight_decay": _between(1e-3, 1e-1, log=True),
    "loop.average": _among(0.98, 0.99, 0.995),
}
_TREES: Final[Mapping[str, Choose]] = {
    "trees.learning_rate": _between(0.02, 0.15, log=True),
    "trees.leaves": _among(15, 31, 63, 127),
    "trees.rows_per_leaf": _among(20, 50, 100, 200, 400),
    "trees.column_share": _between(0.2, 1.0),
    "trees.row_share": _between(0.5, 1.0),
    "trees.l2": _between(0.1, 100.0, log=True),
}
_D2Q: Final[Mapping[str, Choose]] = {"head.groups": _among(10, 30, 50, 100)}
_DML: Final[Mapping[str, Choose]] = {
    **_D2Q,
    "head.rho": _among(0.95, 0.97, 0.99, 1.0),
    "head.views": _between(0.01, 1.0, log=True),
}
_CWM: Final[Mapping[str, Choose]] = {
    "head.cost": _between(10.0, 80.0, log=True),
    "head.sigma": _between(0.5, 4.0, log=True),
    "head.separate_means": _among(False, True),
}
OWN: Final[Mapping[str, Mapping[str, Choose]]] = {
    "lda": {
        "head.anchors.anchors": _among(8, 16, 32),
        "head.target": _among("ratio", "time"),
        "head.loss": _among("l1", "huber"),
        "head.delta": _between(0.1, 1.0, log=True),
        "head.alignment": _between(0.03, 1.0, log=True),
        "head.epsilon": _between(0.02, 0.2, log=True),
        "head.kappa": _between(0.01, 1.0, log=True),
        "head.label_cost": _between(1.0, 8.0, log=True),
        "head.regressor": _among("anchors", "state"),
        "head.states": _among(0.0, 0.1, 0.3, 1.0),
        "head.prior": _among("even", "share"),
        "head.crps": _among(0.0, 0.1, 0.3, 1.0, 3.0),
        "head.point": _among("regressor", "both"),
    },
    "or": {"head.thresholds": _among(20, 50, 100)},
    "tpm": {
        "head.leaves": _among(16, 32, 64),
        "head.mse": _between(1e-3, 1.0, log=True),
        "head.variance": _between(1e-5, 1e-1, log=True),
    },
    "cread": {
        "head.thresholds": _among(20, 50, 100),
        "head.alike": _among(30, 100, 300),
        "head.restoration": _between(0.1, 3.0, log=True),
        "head.order": _between(1e-5, 1e-2, log=True),
    },
    "d2q l1": _D2Q,
    "d2q l2": _D2Q,
    "dml l1": _DML,
    "dml l2": _DML,
    "cwm l1": _CWM,
    "cwm l2": _CWM,
}
"""By fit, the options of its own method."""


def stop_loss(error: float, xauc: float) -> float:
    """Return log(error / XAUC) on the early-stop days: a hundredth less of the error is worth a hundredth
    more of the order."""
    return math.log((error or math.inf) / (xauc or 1e-9))


def run_search(
    data: Path,
    out: Path,
    fits: Sequence[Fit],
    config: WatchTimeConfig,
    *,
    trials: int,
    epochs: int | None = None,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Fit every method with one set of hyperparameters after another, and write `search.json`.

    Every trial is fitted on the rows before the early-stop days of the first window and evaluated on those
    days by the error that the method is fitted for; no test day of any window is read. Finished trials are
    kept beside `out`; a second call continues from there, also with more trials or methods. The record's
    config has the best trial of each method as `chosen`: `compare watch-time --config` reads it.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: the new folder.
        fits: some of `SEARCHED`.
        config: windows, seed, and the hyperparameters that are not searched. What it has chosen of other
            methods is kept.
        trials: how many a method, those of earlier calls included.
        epochs: of every trial, so that they are cheaper; the number of epochs is then not searched, and the
            record's config keeps its own.
        processes: trials at once, one thread each.
        on_progress: called with the finished share of the trials.

    Raises:
        BadInput: `out` exists, the log cannot be read or is too short, or every trial of a method diverged.
    """
    refuse_existing(out)
    origin = provenance()
    window = load_first_window(data, config)
    checkpoint = Checkpoint(partial_path(out), digest(data, f"{config.model_dump_json()}{epochs}"))
    journal = out.parent / f".{out.name}.journal"
    prepare = partial(_prepare, data, config, epochs, journal, checkpoint.digest)
    # All methods' first trials, then their second: what an interrupted search has is the same for all.
    jobs = [Job(fit.name, trial) for trial in range(trials) for fit in fits]
    outcomes = run_jobs(jobs, prepare, checkpoint, processes=processes, on_progress=on_progress)
    rows = [_row(fit, [outcomes[Job(fit.name, trial)] for trial in range(trials)]) for fit in fits]
    chosen = config.chosen | {row["fit"]: Hyperparameters(**row["best"]["changes"]) for row in rows}
    report = {
        **origin,
        "dataset": dataset_summary(window, partial(describe_window, window)) | EVALUATED_ON,
        "trials": trials,
        "epochs": epochs,
        "config": config.model_copy(update={"chosen": chosen}).model_dump(mode="json"),
        "rows": rows,
    }
    write_report(out, "search", report)
    journal.unlink(missing_ok=True)
    checkpoint.remove()
    return report


def _row(fit: Fit, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    trials = sorted((o.result for o in outcomes if o.refused is None), key=lambda trial: trial["loss"])
    if not trials:
        raise BadInput(f"every trial of {fit.name} diverged; search with a lower learning rate in --config.")
    return {
        "fit": fit.name,
        "error": fit.error,
        "diverged": len(outcomes) - len(trials),
        "best": trials[0],
        "trials": trials,
    }


def _prepare(data: Path, config: WatchTimeConfig, epochs: int | None, journal: Path, name: str) -> Work:
    """Read the log; the sampler of each trial knows those of all workers through the journal."""
    window = load_first_window(data, config)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)

    def work(job: Job, progress: Progress) -> Result:
        fit = FITS[job.method]
        results: list[Result] = []

        def objective(trial: optuna.Trial) -> float:
            results.append(_fit_trial(trial, fit, window, config, epochs, progress))
            return float(results[0]["loss"])

        # Of the trial alone: the first draws of what all heads share are the same for all of them.
        seed = int(np.random.default_rng((config.seed, job.seed)).integers(2**31))
        _study(journal, f"{name} {fit.name}", seed).optimize(objective, n_trials=1)
        return results[0]

    return work


def _study(journal: Path, name: str, seed: int) -> optuna.Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # constant_liar
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS, constant_liar=True)
    return optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=sampler,
        load_if_exists=True,
    )


def _fit_trial(
    trial: optuna.Trial,
    fit: Fit,
    window: ExperimentData,
    config: WatchTimeConfig,
    epochs: int | None,
    progress: Progress,
) -> Result:
    own = suggest(trial, fit, epochs=epochs is None)
    loop = config.loop if epochs is None else config.loop.model_copy(update={"epochs": epochs})
    tried = config.model_copy(update={"chosen": {fit.name: own}, "loop": loop})
    found = fit_window(window, fit, tried, config.seed, progress).stop
    loss = stop_loss(found.error, found.xauc)
    if not np.isfinite(loss):
        raise BadInput("the fit diverged.")
    return {
        "number": trial.number,
        "loss": loss,
        **found._asdict(),
        "hyperparameters": dict(trial.params),
        "changes": own.model_dump(mode="json"),
    }
