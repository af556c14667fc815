"""`compare forgetting-ranker`: the served ranker forgets wrong rows, users and videos in every way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from training.data import Dataset, without
from training.experiments.config import MethodSpec
from training.experiments.engine import Experiment, Fits
from training.experiments.forgetting_ranker.commands import (
    FIT,
    ONE_USER,
    SOME_USERS,
    time_commands,
)
from training.experiments.forgetting_ranker.config import RankerForgettingConfig
from training.experiments.forgetting_ranker.evaluator import (
    Predicted,
    SampledLog,
    load_sample,
    removal_membership_auc,
)
from training.experiments.forgetting_ranker.influence import Change
from training.experiments.forgetting_ranker.removals import draw_removals
from training.experiments.forgetting_ranker.row_loss import FitRows
from training.experiments.jobs import Progress, Result
from training.experiments.results import Row
from training.forgetting import Update
from training.labels import labels_of
from training.rankers import MultiObjectiveRanker, Ranker
from training.train.calibration import calibrate
from training.train.fit import Windows, cut_windows, evaluation_boundaries, fit_for_evaluation
from training.train.fitted import Fitted
from training.train.forget import forget_in
from training.train.objectives import choose_objectives
from training.train.run_config import RunConfig
from training.train.verification import distance, too_bad

_OTHER_SEED: Final = 1000
"""Added to the seed of a second fit without the rows."""
RANKER, COMMANDS = "ranker", "commands"


@dataclass(frozen=True)
class Method(MethodSpec):
    """A way to forget, or a command that is timed."""

    damping: float | None = None
    """δ a remaining row, of influence."""
    is_network: bool = False
    """Whether the encoder is updated, too."""
    spillover: bool = True
    """Whether it counts."""


def _influence(damping: float, *, is_network: bool, spillover: bool = True) -> Method:
    part = "network" if is_network else "output layers"
    return Method(
        f"{part}, δ = {damping:g} n{'' if spillover else ', no spillover'}",
        f"one Newton step of {'all weights' if is_network else 'the layers after the encoder'}"
        f"{'' if spillover else ' without spillover'}",
        fit=RANKER,
        damping=damping,
        is_network=is_network,
        spillover=spillover,
        ablation=not spillover,
    )


_NETWORK_DAMPINGS: Final = (0.3, 1.0, 3.0)
"""δ a remaining row, where all weights are updated."""
_OUTPUT_DAMPINGS: Final = (0.03, 0.3, 3.0)
"""The same where the encoder is left as it is."""
METHODS: Final = (
    Method("retrain", "the recipe again without the rows, same seed", fit=RANKER),
    Method("retrain, other seed", "the recipe again without the rows, another seed", fit=RANKER),
    Method("nothing", "the fitted ranker as it is", fit=RANKER),
    Method("tables", "tables, vocabulary and calibration of the remaining rows: `forget`", fit=RANKER),
    *(_influence(damping, is_network=True) for damping in _NETWORK_DAMPINGS),
    *(_influence(damping, is_network=False) for damping in _OUTPUT_DAMPINGS),
    Method("fine-tuning", "one epoch more on the remaining rows", fit=RANKER),
    _influence(_NETWORK_DAMPINGS[1], is_network=True, spillover=False),
    _influence(_OUTPUT_DAMPINGS[1], is_network=False, spillover=False),
    Method(FIT, "the recipe: both fits", fit=COMMANDS, constant=True),
    Method(ONE_USER, "tables of both fits, checked and written", fit=COMMANDS, constant=True),
    Method(SOME_USERS, "the same", fit=COMMANDS, constant=True),
)
"""Every row. Influence starts from `tables`."""


class Way(NamedTuple):
    """What a way to forget leaves."""

    ranker: Ranker
    windows: Windows
    """Of its vocabulary."""
    seconds: float
    update: Update | None = None


def fit_model(
    evaluator: SampledLog, name: str, config: RankerForgettingConfig, seed: int, progress: Progress
) -> Result:
    """Fit the ranker on rows some of which are wrong, and forget sets of rows in every way; or time the
    commands."""
    dataset = evaluator.data.dataset
    if name == COMMANDS:
        timed = time_commands(dataset, config, seed=seed)
        return {"readouts": {command: {"figures": figures} for command, figures in timed.items()}}
    removals, run = draw_removals(dataset, config, seed=seed), config.recipe(seed)
    boundaries = evaluation_boundaries(removals.fitted, run)
    run, _ = choose_objectives(removals.fitted, run, boundaries.test_ms)
    before = cut_windows(removals.fitted, run, boundaries)
    fitted = _fit(removals.fitted, run)
    methods = [method for method in METHODS if method.fit == RANKER]
    readouts: dict[str, Result] = {method.name: {"figures": {}} for method in methods}
    forgotten = {}
    for finished, removal in enumerate(removals.each):
        progress((1 + 3 * finished) / 10)
        remaining = without(removals.fitted, removals.each[removal].forgotten)
        ways = _ways(fitted, before, remaining, config, run)
        forgotten[removal] = len(before.known) - len(ways["tables"].windows.known)
        former = Predicted.by(fitted.ranker, before, remaining, run)
        retrained = Predicted.by(ways["retrain"].ranker, ways["retrain"].windows, remaining, run)
        for method, way in ways.items():
            found = Predicted.by(way.ranker, way.windows, remaining, run)
            apart = distance(found.test, retrained.test)
            known = removals.complete, removals.each[removal], run
            figures = {
                "seconds": way.seconds,
                "times_faster": ways["retrain"].seconds / way.seconds if way.seconds else None,
                "distance_log_s": None if method == "retrain" else apart.log_seconds,
                "distance_logit": None if method == "retrain" else apart.logit,
                "membership_auc": removal_membership_auc(way.ranker, way.windows, *known),
                **found.figures(),
                "refused": float(too_bad(found.checked(former)) is not None),
            }
            if way.update is not None:
                figures |= {
                    "residual": way.update.residual,
                    "products": way.update.iterations,
                    "indefinite": float(way.update.indefinite),
                }
            readouts[method]["figures"] |= {f"{n}/{removal}": value for n, value in figures.items()}
    return {"readouts": readouts, "fitted_on": {"rows": len(before.known), "forgotten": forgotten}}


def _fit(dataset: Dataset, run: RunConfig) -> Fitted:
    return fit_for_evaluation(dataset, run, lambda stage, share: None)[0]


def _ways(
    fitted: Fitted, before: Windows, remaining: Dataset, config: RankerForgettingConfig, run: RunConfig
) -> dict[str, Way]:
    """Return what every way leaves of a fit, by the name of its method."""
    after = cut_windows(remaining, run, before.boundaries)
    found = {}
    for name, seed in (("retrain", run.seed), ("retrain, other seed", run.seed + _OTHER_SEED)):
        began = time.process_time()
        again = _fit(remaining, run.model_copy(update={"seed": seed}))
        found[name] = Way(again.ranker, after, time.process_time() - began)
    found["nothing"] = Way(fitted.ranker, before, 0.0)
    began = time.process_time()
    tables = forget_in(fitted, before, after, run)
    calibrated(tables, tables.ranker, after, run)
    tables_s = time.process_time() - began
    found["tables"] = Way(tables.ranker, after, tables_s)
    for is_network in (True, False):
        began = time.process_time()
        change = Change.measure((fitted, before), (tables, after), config, run, is_network=is_network)
        measured_s = time.process_time() - began
        for method in METHODS:
            if method.damping is None or method.is_network != is_network:
                continue
            began = time.process_time()
            update = change.update(method.damping, config, spillover=method.spillover)
            ranker = calibrated(tables, change.applied(tables.ranker, update), after, run)
            seconds = tables_s + measured_s + time.process_time() - began
            found[method.name] = Way(ranker, after, seconds, update)
    began = time.process_time()
    ranker = calibrated(tables, fine_tuned(tables, after, config, run), after, run)
    found["fine-tuning"] = Way(ranker, after, tables_s + time.process_time() - began)
    return found


def calibrated(fitted: Fitted, ranker: Ranker, windows: Windows, run: RunConfig) -> Ranker:
    """Calibrate a ranker on the early-stop rows, in place, and return it."""
    assert isinstance(ranker, MultiObjectiveRanker)
    stop = windows.split.early_stop
    label = labels_of(fitted.labelcraft, windows.log.take(stop))
    calibrate(ranker, windows.log, stop, run.loop.sequence_length, label)
    return ranker


def fine_tuned(
    fitted: Fitted, windows: Windows, config: RankerForgettingConfig, run: RunConfig
) -> MultiObjectiveRanker:
    """Return the ranker after one epoch more on its train rows, with dropout as in the recipe."""
    rows = FitRows(fitted, windows, run)
    ranker = rows.ranker.train()
    optimiser = torch.optim.AdamW(
        ranker.parameters(), lr=config.fine_tuning_rate, weight_decay=run.loop.weight_decay
    )
    torch.manual_seed(run.seed)
    order = np.random.default_rng(run.seed).permutation(len(rows.known))
    for batch in map(rows.batch, np.array_split(order, -(-len(order) // run.loop.batch_size))):
        optimiser.zero_grad()
        watch_time_R1, target_R1T = batch.watch_time[:, None], batch.target[:, None]
        losses = ranker.losses(batch.x, batch.statistics, watch_time_R1, target_R1T)
        (torch.stack(losses.each) @ rows.weights).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(ranker.parameters(), 1.0)
        optimiser.step()
    return ranker.eval()


def describe_fits(method: Method, fits: Sequence[Result]) -> dict[str, Any]:
    """Return which table a row belongs to."""
    return {"table": method.fit, "is_influence": method.damping is not None}


def sections(
    evaluator: SampledLog,
    config: RankerForgettingConfig,
    methods: Sequence[Method],
    rows: Sequence[Row],
    fits: Fits,
) -> dict[str, Any]:
    """Return how many rows are fitted on and forgotten, first seed."""
    found = (results[0]["fitted_on"] for results in fits.values() if results and "fitted_on" in results[0])
    return {"fitted_on": next(found, None)}


FORGETTING_RANKER: Final = Experiment(
    name="forgetting-ranker",
    config=RankerForgettingConfig,
    methods=METHODS,
    reference="retrain",
    load=load_sample,
    fit=fit_model,
    describe_fits=describe_fits,
    sections=sections,
    columns=(
        ("seconds/users", "CPU s", 2),
        ("times_faster/users", "times faster", 1),
        ("distance_logit/users", "distance", 3),
        ("membership_auc/users", "membership", 3),
    ),
)
