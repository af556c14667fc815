"""Recommenders that no run folder holds, fitted for an audit on the days before its window."""

# Shape suffixes: N rows of the log.

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from models.arrays import F32
from models.errors import BadInput
from training.data import split_by_time
from training.encoders import RankerInputs
from training.evaluation.predict import predict_seconds
from training.experiments.audit_data import AuditConfig, load_audit_data
from training.experiments.data import ExperimentData
from training.experiments.jobs import Job, Outcome, Progress, Result, Work
from training.experiments.ranked_systems import SCORE, RankedSystem, probe_outputs
from training.experiments.watch_time.config import WatchTimeConfig
from training.experiments.watch_time.fits import fit_head
from training.experiments.watch_time.methods import FITS
from training.labels import SASRecBinary, heuristic_label_makers, labels_of
from training.recommender import fit_recommender, fit_sequences
from training.train.fit import rows_in_main_tab
from training.train.rankers import best_epoch_count

SASREC: Final = {
    "sasrec binary": "SASRec4SV: the probability that more than half is watched",
    "sasrec ratio": "SASRec4SV: the watch ratio",
}
"""The two heads of SASRec4SV."""
SERVED: Final = "lda"
"""The served encoder under the served head, fitted to watch time alone."""
DIN: Final = "din "
"""`din LABEL`: LabelCraft's recommender on that label."""


def parse_fits(names: str | None) -> list[str]:
    """Return the recommenders that `--fit` names, separated by commas.

    Raises:
        BadInput: there is no such recommender.
    """
    fits = [" ".join(name.split()) for name in (names or "").split(",") if name.strip()]
    known = [SERVED, *SASREC, *(DIN + maker.name for maker in heuristic_label_makers())]
    for name in fits:
        if name not in known:
            raise BadInput(f"--fit names {name!r}; there are {', '.join(known)}.")
    return list(dict.fromkeys(fits))


def prepare_fits(folder: Path, config: AuditConfig) -> Work:
    """Read the log once, and return what fits a recommender on the days before the window."""
    data = load_audit_data(folder, config)
    dataset, boundaries = data.dataset, data.boundaries
    vocabulary = dataset.vocabulary(boundaries.early_stop_ms, config.min_count)
    log = dataset.interactions(vocabulary)
    split = split_by_time(log.timestamp_ms, boundaries)
    order = data.locate(vocabulary)
    window = ExperimentData(dataset, vocabulary, log, split.train, None, split.early_stop, order.rows)

    def work(job: Job, progress: Progress) -> Result:
        started = time.monotonic()
        if job.method == SERVED:
            result = _fit_served(window, config, job.seed, progress)
        elif job.method in SASREC:
            result = _fit_sasrec(job.method, window, config, job.seed, progress)
        else:
            result = _fit_din(job.method.removeprefix(DIN), window, config, job.seed, progress)
        columns = {name: value[order.back].tolist() for name, value in result["columns"].items()}
        return {**result, "columns": columns, "seconds": time.monotonic() - started}

    return work


def fitted_systems(
    names: Sequence[str], outcomes: Mapping[Job, Outcome], config: AuditConfig
) -> list[RankedSystem]:
    """Return the recommenders that were fitted; those that refused the log are left out."""
    systems = []
    for name in names:
        result, refused = outcomes[Job(name, config.seed)]
        if refused is not None:
            continue
        columns = {column: np.array(value, np.float32) for column, value in result["columns"].items()}
        served = "the encoder and the watch-time head that are served, fitted to watch time alone"
        description = {SERVED: served, **SASREC}.get(name) or f"DIN on the label {name.removeprefix(DIN)}"
        systems.append(
            RankedSystem(
                name,
                f"{description}; fitted before the window, {result['epochs']} epochs",
                "encoder",
                columns.pop(SCORE),
                columns,
                result["probe"],
            )
        )
    return systems


def _fit_served(data: ExperimentData, config: AuditConfig, seed: int, progress: Progress) -> Result:
    stop = rows_in_main_tab(data.dataset, data.log, data.stop, data.vocabulary)
    in_tab = ExperimentData(data.dataset, data.vocabulary, data.log, data.train, None, stop, data.test)
    hyperparameters = WatchTimeConfig()
    ranker, epochs = fit_head(in_tab, FITS["lda"], hyperparameters, seed, progress)
    length = hyperparameters.loop.sequence_length
    seconds = predict_seconds(ranker, data.log, data.test, length)
    score = predict_seconds(ranker, data.log, data.test, length, history_at="request")

    def rank(x: RankerInputs) -> F32:
        with torch.no_grad():
            return ranker.seconds(x).numpy()

    return {
        "columns": {SCORE: score, "seconds": seconds},
        "epochs": best_epoch_count(epochs),
        "probe": probe_outputs({"watch_time_s": rank}, data.log, data.test, length, config),
    }


def _fit_sasrec(
    name: str, data: ExperimentData, config: AuditConfig, seed: int, progress: Progress
) -> Result:
    log, head = data.log, name.removeprefix("sasrec ")
    label = log.watch_time_s / log.duration_s if head == "ratio" else labels_of(SASRecBinary(), log)
    sasrec = config.sequences.sasrec.model_copy(update={"head": head})
    sequences = config.sequences.model_copy(update={"sasrec": sasrec})
    fitted = fit_sequences(log, data.train, label, sequences, stop=data.stop, seed=seed, on_progress=progress)
    score = fitted.predict(data.test)
    column = {"seconds": score * log.duration_s[data.test]} if head == "ratio" else {"half": score}
    return {"columns": {SCORE: score, **column}, "epochs": fitted.best_epoch + 1, "probe": {}}


def _fit_din(label: str, data: ExperimentData, config: AuditConfig, seed: int, progress: Progress) -> Result:
    maker = next(maker for maker in heuristic_label_makers() if maker.name == label).fit(
        data.log.take(data.train)
    )
    labels_N1 = labels_of(maker, data.log)[:, None]
    fitted = fit_recommender(
        data.log, data.train, data.stop, labels_N1, config.recommender, seed=seed, on_progress=progress
    )
    return {"columns": {SCORE: fitted.score(data.test)}, "epochs": fitted.best_epoch + 1, "probe": {}}
