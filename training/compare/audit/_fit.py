"""Recommenders that no run folder holds, fitted for an audit on the days before its window."""

# Shape suffixes: N rows of the log.

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.arrays import F32, I64
from models.errors import BadInput
from models.vocabulary import Vocabulary
from training.compare._jobs import Job, Outcome, Prepare, Progress, Result, Work
from training.compare.audit._subjects import Subject
from training.compare.audit._world import AuditConfig, open_audit
from training.data import Dataset, Interactions, split_by_time
from training.encoders import HistoryAt, RankerInputs
from training.evaluation.counterfactual_probe import Moved, make_probes, moved
from training.evaluation.predict import predict_seconds
from training.labels import LabelMaker, SASRecBinary, Scale, heuristic_label_makers, labels_of
from training.lda import LDA
from training.rankers import TwoObjectiveRanker
from training.recommender import fit_recommender, fit_sequences
from training.train.fit import rows_in_main_tab
from training.train.rankers import best_epoch_count, fit_ranker
from training.train.recipes import any_log
from training.train.run_config import new_encoder

SASREC: Final = {
    "sasrec binary": "SASRec4SV: the probability that more than half is watched",
    "sasrec ratio": "SASRec4SV: the watch ratio",
}
"""The two heads of SASRec4SV."""
SERVED: Final = "lda"
"""The served encoder under the served head, for watch time alone."""
HISTORIES: Final[tuple[HistoryAt, HistoryAt]] = ("row", "request")
DIN: Final = "din "
"""`din LABEL`: LabelCraft's recommender on that label."""


def names(asked: str | None) -> list[str]:
    """What `--fit` asks for.

    Raises:
        BadInput: there is no such recommender.
    """
    found = [" ".join(name.split()) for name in (asked or "").split(",") if name.strip()]
    known = [SERVED, *SASREC, *(DIN + rule.name for rule in heuristic_label_makers())]
    for name in found:
        if name not in known:
            raise BadInput(f"--fit names {name!r}; there are {', '.join(known)}.")
    return list(dict.fromkeys(found))


def jobs(asked: Sequence[str], config: AuditConfig) -> list[Job]:
    """One fit each."""
    return [Job(name, config.seed) for name in asked]


def prepare(data: Path, config: AuditConfig) -> Prepare:
    """What does a job, in a process of its own."""
    return partial(_prepare, data, config)


def subjects(asked: Sequence[str], outcomes: dict[Job, Outcome], config: AuditConfig) -> list[Subject]:
    """What was fitted, as it orders the judged rows; what refused this log is left out."""
    out = []
    for name in asked:
        result, refused = outcomes[Job(name, config.seed)]
        if refused is not None:
            continue
        columns = {
            key: None if result[key] is None else np.array(result[key], np.float32)
            for key in ("score", "seconds", "half")
        }
        score = columns["score"]
        assert score is not None
        out.append(
            Subject(
                name,
                f"{_says(name)}; fitted before the window, {result['epochs']} epochs",
                "encoder",
                score,
                seconds=columns["seconds"],
                half=columns["half"],
                probe=_read(result["probe"]),
            )
        )
    return out


def _read(probe: dict[str, Any]) -> dict[str, dict[str, Moved]]:
    kinds = {kind: Moved(**{**found, "ci": tuple(found["ci"])}) for kind, found in probe.items()}
    return {"watch_time_s": kinds} if kinds else {}


def _says(name: str) -> str:
    if name == SERVED:
        return "the encoder and the watch-time head that are served, fitted to watch time alone"
    return SASREC.get(name) or f"DIN on the label {name.removeprefix(DIN)}"


def _prepare(data: Path, config: AuditConfig) -> Work:
    world = open_audit(data, config)
    vocabulary = world.dataset.vocabulary(world.at.early_stop_ms, config.min_count)
    log = world.dataset.interactions(vocabulary)
    split = split_by_time(log.timestamp_ms, world.at)
    where = np.empty(len(log), np.int64)
    where[world.placed(vocabulary)] = np.arange(len(log))
    judged = where[world.rows]

    def work(job: Job, progress: Progress) -> Result:
        began = time.monotonic()
        rows = np.sort(judged)
        back = np.searchsorted(rows, judged)
        parts = (split.train, split.early_stop, rows)
        if job.method == SERVED:
            found = _lda(world.dataset, vocabulary, log, parts, config, job.seed, progress)
        else:
            fit = _sasrec if job.method in SASREC else _din
            found = fit(job.method, log, parts, config, job.seed, progress)
        of_rows = {
            key: None if value is None else value[back].tolist() for key, value in found.columns.items()
        }
        return {
            **of_rows,
            "epochs": found.epochs,
            "probe": found.probe,
            "seconds_taken": time.monotonic() - began,
        }

    return work


class _Found:
    """Columns of the judged rows, ascending in the log, and what a probe found."""

    def __init__(
        self,
        epochs: int,
        score: F32,
        seconds: F32 | None = None,
        half: F32 | None = None,
        probe: dict[str, Moved] | None = None,
    ) -> None:
        self.epochs = epochs
        self.probe = {kind: moved._asdict() for kind, moved in (probe or {}).items()}
        self.columns = {"score": score, "seconds": seconds, "half": half}


def _lda(
    dataset: Dataset,
    vocabulary: Vocabulary,
    log: Interactions,
    parts: tuple[I64, I64, I64],
    config: AuditConfig,
    seed: int,
    on: Progress,
) -> _Found:
    train, stop, rows = parts
    recipe = any_log()
    loop = recipe.loop.model_copy(update={"interest": 0.0})
    torch.manual_seed(seed)
    encoder = new_encoder(recipe.encoder, vocabulary, dataset.profile_numbers, dataset.profile_categories)
    head = LDA(recipe.encoder.width, recipe.lda)
    head.fit_tables(log.take(train), seed=seed)
    ranker = TwoObjectiveRanker(encoder, head, Scale())
    epochs = fit_ranker(
        ranker,
        log,
        train,
        np.zeros(len(train), np.float32),
        loop,
        seed=seed,
        stop_rows=rows_in_main_tab(dataset, log, stop, vocabulary),
        censored=dataset.censored(vocabulary),
        on_step=on,
    )
    seconds, score = (
        predict_seconds(ranker, log, rows, loop.sequence_length, history_at=history_at)
        for history_at in HISTORIES
    )

    def answer(x: RankerInputs) -> F32:
        with torch.no_grad():
            return ranker.seconds(x).numpy()

    try:
        probes = make_probes(log, rows, loop.sequence_length, most=config.probes, seed=config.seed)
    except BadInput:
        return _Found(best_epoch_count(epochs), score, seconds=seconds)
    return _Found(best_epoch_count(epochs), score, seconds=seconds, probe=moved(answer, probes))


def _sasrec(
    name: str, log: Interactions, parts: tuple[I64, I64, I64], config: AuditConfig, seed: int, on: Progress
) -> _Found:
    train, stop, rows = parts
    ratio = name == "sasrec ratio"
    label = log.watch_time_s / log.duration_s if ratio else labels_of(SASRecBinary(), log)
    sizes = config.sequences.sasrec.model_copy(update={"head": "ratio" if ratio else "binary"})
    knobs = config.sequences.model_copy(update={"sasrec": sizes})
    fitted = fit_sequences(log, train, label, knobs, stop=stop, seed=seed, on_progress=on)
    found = fitted.predict(rows)
    if ratio:
        return _Found(fitted.best_epoch + 1, found, seconds=found * log.duration_s[rows])
    return _Found(fitted.best_epoch + 1, found, half=found)


def _din(
    name: str, log: Interactions, parts: tuple[I64, I64, I64], config: AuditConfig, seed: int, on: Progress
) -> _Found:
    train, stop, rows = parts
    maker: LabelMaker = next(rule for rule in heuristic_label_makers() if DIN + rule.name == name)
    maker.fit(log.take(train))
    label = labels_of(maker, log)
    fitted = fit_recommender(log, train, stop, label[:, None], config.recommender, seed=seed, on_progress=on)
    return _Found(fitted.best_epoch + 1, fitted.score(rows))
