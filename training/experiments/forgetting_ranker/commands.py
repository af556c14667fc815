"""What the commands `fit` and `forget` take on one log, from reading it to the new run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from training.data import INFO, Dataset, write_tables
from training.experiments.forgetting_ranker.config import RankerForgettingConfig
from training.experiments.forgetting_ranker.removals import USERS, draw_removals
from training.train import run_folder
from training.train.forget_run import forget_run

Timed = dict[str, dict[str, float | None]]
"""Figures by command."""
FIT, ONE_USER, SOME_USERS = "`fit`", "`forget`, one user", "`forget`, a share of the users"


def time_commands(dataset: Dataset, config: RankerForgettingConfig, *, seed: int) -> Timed:
    """Fit the recipe, and forget one user and a share of them, by the functions behind the commands."""
    removals = draw_removals(dataset, config, seed=seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, run = folder / "data", folder / "run"
        data.mkdir()
        write_tables(removals.fitted.tables, data)
        (data / INFO).write_text(removals.fitted.info.model_dump_json())
        fitted_s = _seconds(
            lambda: run_folder.fit(
                removals.fitted, "kuairand_objectives", config.recipe(seed), run, lambda stage, share: None
            )
        )
        found: Timed = {FIT: {"seconds": fitted_s, "times_faster": 1.0}}
        users = removals.each[USERS].forgotten.entries
        for command, entries in ((ONE_USER, users[:1]), (SOME_USERS, users)):
            ledger, out = folder / f"{len(entries)}.ndjson", folder / f"without-{len(entries)}"
            ledger.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
            seconds = _seconds(
                partial(forget_run, run, data, [ledger], out, progress=lambda stage, share: None)
            )
            found[command] = {"seconds": seconds, "times_faster": fitted_s / seconds}
    return found


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
