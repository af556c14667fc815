"""The search for LDA's knobs, on the early-stop days alone, kept as a record."""

from __future__ import annotations

import math
import multiprocessing
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from models.errors import BadInput
from training.compare._digest import digest
from training.compare._report import markdown_table, write_json
from training.compare.watch_time._fit import fit_head
from training.compare.watch_time._methods import METHODS
from training.compare.watch_time._world import WatchTimeConfig, World, open_world
from training.provenance import command, commit, machine
from training.staging import atomic_folder, refuse_existing
from training.train.rankers import RankerEpoch

_POLL_S: Final = 1.0
_STARTUP: Final = 8
"""Trials at random before the sampler believes what it has seen."""
_FIXED: Final = ("mae_s", "xauc", "epoch")


def suggest(trial: optuna.Trial, config: WatchTimeConfig) -> WatchTimeConfig:
    """One point of the space: every option of LDA that its poster leaves open, and what of encoder and loop
    decides how soon a fit learns its log by heart."""
    anchors = config.lda.anchors.model_copy(
        update={"anchors": trial.suggest_categorical("lda.anchors.anchors", (8, 16, 32))}
    )
    lda = {
        "anchors": anchors,
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
    return config.model_copy(
        update={
            "lda": config.lda.model_copy(update=lda),
            "encoder": config.encoder.model_copy(update=encoder),
            "loop": config.loop.model_copy(update=loop),
        }
    )


def loss_of(epoch: RankerEpoch) -> float:
    """What is searched for the least of: log(MAE / XAUC), so that a hundredth less of the one is worth a
    hundredth more of the other."""
    return math.log((epoch.stop_mae_s or math.inf) / (epoch.stop_xauc or 1e-9))


def search(
    data: Path,
    out: Path,
    config: WatchTimeConfig,
    *,
    trials: int,
    processes: int,
    on_progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Fit LDA with one set of knobs after another and write `search.json` and `search.md` into a new folder.

    Every trial is fitted on what lies before the early-stop days and judged on those days; the test days are
    not read. Finished trials are kept in `journal_path(out)`; a second call goes on from there.

    Args:
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: the new folder.
        config: the split, the seed, and the knobs that are not searched.
        trials: how many, those of earlier calls included.
        processes: trials at once, one thread each.
        on_progress: called with the share of trials that are done.

    Raises:
        BadInput: `out` exists, the log cannot be read or is too short, or no trial came to an end.
    """
    refuse_existing(out)
    made = {"command": command(), "commit": commit(), "machine": machine()}
    world = open_world(data, config)
    name = digest(data, config.model_dump_json())
    study = _study(journal_path(out), name, config.seed)
    context = multiprocessing.get_context("spawn")
    pool: list[BaseProcess] = [
        context.Process(
            target=_work, args=(data, config, journal_path(out), name, trials, worker), daemon=True
        )
        for worker in range(processes)
    ]
    try:
        for process in pool:
            process.start()
        while any(process.is_alive() for process in pool):
            pool[0].join(_POLL_S)
            on_progress(min(1.0, len(_finished(study)) / trials))
            for process in pool:
                process.join(_POLL_S if process.is_alive() else 0)
    finally:
        for process in pool:
            process.terminate()
            process.join()
    done = _finished(study)
    if not done:
        raise BadInput("no trial came to an end; see above what the first of them says.")
    report = {
        **made,
        "dataset": world.facts() | {"judged on": "the early-stop days"},
        "space": "see `suggest`",
        "config": config.model_dump(mode="json"),
        "best": done[0],
        "rows": done,
    }
    with atomic_folder(out) as folder:
        write_json(folder / "search.json", report)
        (folder / "search.md").write_text(_markdown(report))
    journal_path(out).unlink()
    return report


def journal_path(out: Path) -> Path:
    """Where finished trials are kept until the record is written."""
    return out.parent / f".{out.name}.journal"


def _study(journal: Path, name: str, seed: int) -> optuna.Study:
    """The trials under this name; made if there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP, constant_liar=True),
        load_if_exists=True,
    )


def _work(data: Path, config: WatchTimeConfig, journal: Path, name: str, trials: int, worker: int) -> None:
    """Fit trials until there are enough."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # constant_liar
        study = _study(journal, name, config.seed + worker)
    world = open_world(data, config)
    while len(study.get_trials(deepcopy=False, states=_TAKEN)) < trials:
        study.optimize(lambda trial: _judge(trial, world, config), n_trials=1, catch=(BadInput,))


_TAKEN: Final = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING)


def _judge(trial: optuna.Trial, world: World, config: WatchTimeConfig) -> float:
    lda = next(method for method in METHODS if method.name == "lda")
    _, epochs = fit_head(world, lda, suggest(trial, config), config.seed, lambda _: None)
    best = min(epochs, key=lambda epoch: epoch.stop_mae_s or math.inf)
    if not np.isfinite(loss_of(best)):
        raise BadInput("the fit diverged.")
    for key, value in zip(_FIXED, (best.stop_mae_s, best.stop_xauc, best.epoch + 1), strict=True):
        trial.set_user_attr(key, value)
    return loss_of(best)


def _finished(study: optuna.Study) -> list[dict[str, Any]]:
    """Trials that came to an end, the best first."""
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    rows = [
        {"number": t.number, "loss": t.value, **{k: t.user_attrs[k] for k in _FIXED}, "knobs": dict(t.params)}
        for t in done
    ]
    return sorted(rows, key=lambda row: row["loss"])


def _markdown(report: dict[str, Any]) -> str:
    rows = report["rows"]
    names = sorted(rows[0]["knobs"])
    body = [
        [
            str(row["number"]),
            f"{row['mae_s']:.3f}",
            f"{row['xauc']:.4f}",
            str(row["epoch"]),
            *(f"{v:.3g}" if isinstance(v := row["knobs"][name], float) else str(v) for name in names),
        ]
        for row in rows
    ]
    parts = [
        f"# LDA's knobs searched on {report['dataset']['dataset']}",
        f"`{report['command']}`",
        f"Commit `{report['commit']}`, {report['machine']}. {len(rows)} trials of the tree-structured",
        "\n".join(markdown_table(["trial", "MAE, s", "XAUC", "epochs", *names], body)),
    ]
    parts[2] += (
        " Parzen estimator (the first at random), each one fit with one seed on what lies before the"
        " early-stop day, judged on that day by log(MAE / XAUC). The test days were not read. Best first;"
        " trials differ by the noise of a seed, too."
    )
    return "\n\n".join(parts) + "\n"
