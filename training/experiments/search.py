"""`compare search`: LDA's hyperparameters by a Parzen estimator, on the early-stop days alone."""

from __future__ import annotations

import math
import warnings
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
from training.experiments.jobs import Checkpoint, Job, Progress, Result, Work, run_jobs, worker_index
from training.experiments.watch_time import HEADS, WatchTimeConfig, WatchTimeEvaluator, fit_head, load_data
from training.provenance import provenance
from training.staging import refuse_existing
from training.train.rankers import RankerEpoch

EVALUATED_ON: Final = {"evaluated on": "the early-stop days"}
_STARTUP_TRIALS: Final = 8
"""Trials at random before the sampler uses what it has seen."""


def suggest(trial: optuna.Trial, config: WatchTimeConfig) -> WatchTimeConfig:
    """Return one point of the space: every option of LDA that its poster leaves open, and what of encoder and
    loop decides how soon a fit overfits."""
    anchors = {"anchors": trial.suggest_categorical("lda.anchors.anchors", (8, 16, 32))}
    lda = {
        "anchors": config.lda.anchors.model_copy(update=anchors),
        "target": trial.suggest_categorical("lda.target", ("ratio", "time")),
        "loss": trial.suggest_categorical("lda.loss", ("l1", "huber")),
        "rank": trial.suggest_float("lda.rank", 2.0, 20.0, log=True),
        "alignment": trial.suggest_float("lda.alignment", 0.03, 1.0, log=True),
        "epsilon": trial.suggest_float("lda.epsilon", 0.02, 0.2, log=True),
        "kappa": trial.suggest_float("lda.kappa", 0.01, 1.0, log=True),
    }
    encoder = {
        "dropout": trial.suggest_float("encoder.dropout", 0.1, 0.5),
        "id_dropout": trial.suggest_float("encoder.id_dropout", 0.1, 0.6),
        "tokens": trial.suggest_categorical("encoder.tokens", ("plain", "full")),
        "interests": trial.suggest_categorical("encoder.interests", ("one", "apart", "both")),
        "gate": trial.suggest_categorical("encoder.gate", (False, True)),
    }
    loop = {
        "learning_rate": trial.suggest_float("loop.learning_rate", 4e-4, 2e-3, log=True),
        "weight_decay": trial.suggest_float("loop.weight_decay", 1e-3, 1e-1, log=True),
        "average": trial.suggest_categorical("loop.average", (0.98, 0.99, 0.995)),
    }
    parts = {"lda": lda, "encoder": encoder, "loop": loop}
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=changes) for name, changes in parts.items()}
    )


def stop_loss(epoch: RankerEpoch) -> float:
    """Return log(MAE / XAUC) on the early-stop days: a hundredth less of the error is worth a hundredth more
    of the order."""
    return math.log((epoch.stop_mae_s or math.inf) / (epoch.stop_xauc or 1e-9))


def run_search(
    data: Path,
    out: Path,
    config: WatchTimeConfig,
    *,
    trials: int,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Fit LDA with one set of hyperparameters after another, and write `search.json` into a new folder.

    Every trial is fitted on the rows before the early-stop days and evaluated on those days; the test days
    are not read. Finished trials are kept beside `out`; a second call continues from there.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: the new folder.
        config: windows, seed, and the hyperparameters that are not searched.
        trials: how many, those of earlier calls included.
        processes: trials at once, one thread each.
        on_progress: called with the finished share of the trials.

    Raises:
        BadInput: `out` exists, the log cannot be read or is too short, or every trial diverged.
    """
    refuse_existing(out)
    origin = provenance()
    evaluator = WatchTimeEvaluator(load_data(data, config))
    checkpoint = Checkpoint(partial_path(out), digest(data, config.model_dump_json()))
    journal = out.parent / f".{out.name}.journal"
    prepare = partial(_prepare, data, config, journal, checkpoint.digest)
    jobs = [Job("lda", trial) for trial in range(trials)]
    outcomes = run_jobs(jobs, prepare, checkpoint, processes=processes, on_progress=on_progress)
    rows = sorted((o.result for o in outcomes.values() if o.refused is None), key=lambda row: row["loss"])
    if not rows:
        raise BadInput("every trial diverged; search with a lower learning rate in --config.")
    report = {
        **origin,
        "dataset": dataset_summary(evaluator.data, evaluator.describe_window) | EVALUATED_ON,
        "space": "see `suggest`",
        "config": config.model_dump(mode="json"),
        "best": rows[0],
        "rows": rows,
    }
    write_report(out, "search", report)
    journal.unlink(missing_ok=True)
    checkpoint.remove()
    return report


def _prepare(data: Path, config: WatchTimeConfig, journal: Path, name: str) -> Work:
    """Read the log; the sampler of each worker knows the trials of all through the journal."""
    log = load_data(data, config)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # constant_liar
        sampler = optuna.samplers.TPESampler(
            seed=config.seed + worker_index(), n_startup_trials=_STARTUP_TRIALS, constant_liar=True
        )
    study = optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=sampler,
        load_if_exists=True,
    )

    def work(job: Job, progress: Progress) -> Result:
        results: list[Result] = []

        def objective(trial: optuna.Trial) -> float:
            results.append(_fit_trial(trial, log, config, progress))
            return float(results[0]["loss"])

        study.optimize(objective, n_trials=1)
        return results[0]

    return work


def _fit_trial(
    trial: optuna.Trial, data: ExperimentData, config: WatchTimeConfig, progress: Progress
) -> Result:
    _, epochs = fit_head(data, HEADS["lda"], suggest(trial, config), config.seed, progress)
    best = min(epochs, key=lambda epoch: epoch.stop_mae_s or math.inf)
    if not np.isfinite(stop_loss(best)):
        raise BadInput("the fit diverged.")
    figures = {"mae_s": best.stop_mae_s, "xauc": best.stop_xauc, "epoch": best.epoch + 1}
    parameters = {"hyperparameters": dict(trial.params)}
    return {"number": trial.number, "loss": stop_loss(best), **figures, **parameters}
