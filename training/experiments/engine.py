"""The engine of every experiment: a grid of methods and seeds, fitted side by side, as one report.

An experiment is a value: how its log is loaded, which methods it has, how one is fitted. The engine fits each
method with each seed in processes of one thread, continues where a stopped run ended, compares the rows with
the reference by a paired bootstrap over users and seeds, and writes `report.json`; the rest is rendered from
that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np

from models.arrays import I64
from models.errors import BadInput
from training.config import Config
from training.evaluation.bootstrap import Difference, Measure, Resamples, holm, self_p_values
from training.experiments.config import ExperimentConfig, MethodSpec
from training.experiments.data import ExperimentData, dataset_summary
from training.experiments.jobs import Checkpoint, Job, Outcome, Prepare, Progress, Result, Work, run_jobs
from training.experiments.render import render
from training.experiments.results import Row, decode, summarize_seeds, write_json
from training.experiments.significance import SIGNIFICANT
from training.provenance import code_digest, provenance
from training.staging import atomic_folder, refuse_existing

_LEAST_REPEATED: Final = 4
"""Seeds of a method that can be compared with itself, by halves."""
_SELF_TRIALS: Final = 60
"""Comparisons of methods with themselves, a figure."""


class Evaluator(Protocol):
    """Computes the figures of predictions on the test window of a log."""

    @property
    def data(self) -> ExperimentData:
        """The log."""
        ...

    @property
    def users(self) -> I64:
        """`[V]` the user of each value."""
        ...

    @property
    def measures(self) -> Mapping[str, Measure]:
        """How users' values make the figures that are compared; more is better in every one."""
        ...

    def describe_window(self, rows: I64) -> Mapping[str, Any]:
        """Return what the report contains of a window besides days, rows and users."""
        ...


C = TypeVar("C", bound=ExperimentConfig)
E = TypeVar("E", bound=Evaluator)
M = TypeVar("M", bound=MethodSpec)
Fits = Mapping[str, Sequence[Result]]
"""By method, the results of its seeds; methods that refused the log are missing."""


@dataclass(frozen=True)
class Experiment(Generic[C, E, M]):
    """What one comparison is made of."""

    name: str
    """As in `compare NAME`."""
    config: type[C]
    methods: tuple[M, ...]
    """Every row of the table, in its order."""
    reference: str
    """The method that every other is compared with."""
    load: Callable[[Path, C], E]
    """Folder and config -> the evaluator; called once in each process."""
    fit: Callable[[E, str, C, int, Progress], Result]
    """Evaluator, fit, config, seed -> JSON with `figures`, with encoded `values` of each user, and more; with
    `readouts`, the same by method, where several are read off one fit. A fit comes by its name, because
    functions in a `MethodSpec` cannot be pickled."""
    describe_fits: Callable[[M, Sequence[Result]], dict[str, Any]]
    """Method and the results of its seeds, perhaps none -> what its row contains besides figures."""
    columns: tuple[tuple[str, str, int], ...]
    """Of the table on the terminal: figure, title, digits."""
    sections: Callable[[E, C, Sequence[M], Sequence[Row], Fits], dict[str, Any]] = lambda *_: {}
    """What the report contains besides its rows."""
    references: Mapping[str, str] = field(default_factory=dict)
    """By figure, the method that every other is compared with, where it is not `reference`."""


def run_experiment(
    experiment: Experiment[C, E, M],
    data: Path,
    out: Path,
    methods: Sequence[M],
    config: C,
    *,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Fit every method with every seed, and write `report.json`, `report.md` and pictures to a new folder.

    Finished fits are kept in `partial_path(out)` until the report is written; a second call with the same
    log, config and code continues from there, also with more methods or seeds.

    Args:
        experiment: what is compared.
        data: a folder that `prepare` wrote, or one's own log in that layout.
        out: the new folder.
        methods: the rows of the table.
        config: windows, seeds and hyperparameters.
        processes: fits at once, one thread each.
        on_progress: called with the finished share.

    Returns:
        The content of `report.json`.

    Raises:
        BadInput: `out` exists, the log cannot be read or is too short, or no method works on this log. One
            that does not is a row with the reason.
    """
    refuse_existing(out)
    origin = provenance()  # now: a long run may see the next commit
    evaluator = experiment.load(data, config)
    outcomes, checkpoint = run_grid(
        grid(methods, config),
        partial(_prepare, experiment.load, experiment.fit, data, config),
        data,
        out,
        config,
        processes=processes,
        on_progress=on_progress,
    )
    rows, fits, power = _rows(experiment, evaluator, methods, outcomes, config)
    report = {
        "kind": experiment.name.replace("-", "_"),
        **origin,
        "dataset": dataset_summary(evaluator.data, evaluator.describe_window),
        "config": config.model_dump(mode="json"),
        **experiment.sections(evaluator, config, methods, rows, fits),
        "power": power,
        "rows": rows,
    }
    write_report(out, "report", report)
    checkpoint.remove()
    return report


def grid(methods: Sequence[MethodSpec], config: ExperimentConfig) -> list[Job]:
    """Return every fit with every seed, one seed after the other: a stopped run has complete tables."""
    seeds = range(config.seed, config.seed + config.seeds)
    jobs = (Job(m.fit_name, seed) for seed in seeds for m in methods if seed in config.seeds_for(m))
    return list(dict.fromkeys(jobs))


def run_grid(
    jobs: Sequence[Job],
    prepare: Prepare,
    data: Path,
    out: Path,
    config: Config,
    *,
    processes: int,
    on_progress: Progress,
) -> tuple[dict[Job, Outcome], Checkpoint]:
    """Run jobs, and reuse the outcomes that an earlier run of the same log, config and code finished.

    Seeds and resamples are no part of "the same config": more of them continue from there.

    Returns:
        The outcomes, and the checkpoint to remove when the report is written.

    Raises:
        BadInput: no method works on this log.
    """
    decisive = config.model_dump_json(exclude={"seed", "seeds", "ablation_seeds", "resamples"})
    checkpoint = Checkpoint(partial_path(out), digest(data, decisive))
    outcomes = run_jobs(jobs, prepare, checkpoint, processes=processes, on_progress=on_progress)
    reasons = [outcome.refused for outcome in outcomes.values()]
    if None not in reasons:
        raise BadInput(f"none of the methods works on this log; of the first: {reasons[0]}")
    return outcomes, checkpoint


def partial_path(out: Path) -> Path:
    """Return where finished fits are kept until the report is written."""
    return out.parent / f".{out.name}.partial.jsonl"


def digest(data: Path, config: str) -> str:
    """Return a digest of every table of a log, of the config, of this code and of torch."""
    sha256 = hashlib.sha256(f"{code_digest()}\n{config}".encode())
    for path in sorted(path for path in data.iterdir() if path.is_file()):
        sha256.update(f"\n{path.name}\n".encode())
        with path.open("rb") as file:
            sha256.update(hashlib.file_digest(file, "sha256").digest())
    return sha256.hexdigest()


def write_report(out: Path, stem: str, report: Mapping[str, Any]) -> None:
    """Write `<stem>.json` and everything that is rendered from it into a new folder, all or nothing."""
    with atomic_folder(out) as folder:
        write_json(folder / f"{stem}.json", report)
        render(folder)


def medians(fits: Sequence[Result], names: Sequence[str]) -> dict[str, float | None]:
    """Return the medians over the seeds of costs such as seconds, with one digit."""
    defined = {name: [fit[name] for fit in fits if fit.get(name) is not None] for name in names}
    return {name: round(float(np.median(values)), 1) if values else None for name, values in defined.items()}


def _prepare(
    load: Callable[[Path, C], E], fit: Callable[[E, str, C, int, Progress], Result], data: Path, config: C
) -> Work:
    evaluator = load(data, config)
    return lambda job, progress: fit(evaluator, job.method, config, job.seed, progress)


def _rows(
    experiment: Experiment[C, E, M],
    evaluator: E,
    methods: Sequence[M],
    outcomes: Mapping[Job, Outcome],
    config: C,
) -> tuple[list[Row], dict[str, list[Result]], dict[str, Any]]:
    """Return the rows of the table, the results of the methods that did not refuse the log, and the power."""
    ends = {m.name: [outcomes[Job(m.fit_name, seed)] for seed in config.seeds_for(m)] for m in methods}
    reasons = {
        name: next((o.refused for o in end if o.refused is not None), None) for name, end in ends.items()
    }
    fits = {
        name: [o.result | o.result.get("readouts", {}).get(name, {}) for o in end]
        for name, end in ends.items()
        if reasons[name] is None
    }
    against, power = _compare(experiment, evaluator, methods, fits, config)
    rows = []
    for method in methods:
        results = fits.get(method.name, [])
        figures = results[0]["figures"] if results else ()
        metrics = {name: summarize_seeds([fit["figures"].get(name) for fit in results]) for name in figures}
        rows.append(
            {
                "method": method.name,
                "says": method.description,
                "refused": reasons[method.name],
                "metrics": {name: summary._asdict() for name, summary in metrics.items()},
                "against": against.get(method.name, {}),
                **experiment.describe_fits(method, results),
            }
        )
    return rows, fits, power


def _compare(
    experiment: Experiment[C, E, M],
    evaluator: E,
    methods: Sequence[M],
    fits: Mapping[str, list[Result]],
    config: C,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return the paired differences of the reference to every other method, and the power by figure, as JSON.

    P values are corrected for the number of methods. Seeds are compared in pairs, as many as both have.
    """
    resamples = Resamples.draw(evaluator.users, config.resamples, seed=config.seed)
    constant = {method.name for method in methods if method.constant}
    against: dict[str, dict[str, Any]] = {}
    power = {}
    for figure, (name, weight_V, of_mean) in evaluator.measures.items():
        values = {
            method: np.stack([decode(result["values"][name]) for result in results])
            for method, results in fits.items()
            if name in results[0]["values"]
        }
        reference = experiment.references.get(figure, experiment.reference)
        if reference not in values:
            continue
        tested: dict[str, Difference] = {}
        reference_DV = values.pop(reference)
        for method, value_DV in values.items():
            pairs = len(reference_DV) if method in constant else min(len(reference_DV), len(value_DV))
            found = resamples.difference(reference_DV[:pairs], value_DV[:pairs], weight_V, of_mean)
            if found is not None:
                tested[method] = found
        corrected = holm([found.p_value for found in tested.values()])
        for (method, found), p_adjusted in zip(tested.items(), corrected, strict=True):
            against.setdefault(method, {})[figure] = found._asdict() | {"p_adjusted": p_adjusted}
        repeated = [
            value_DV for value_DV in (reference_DV, *values.values()) if len(value_DV) >= _LEAST_REPEATED
        ]
        own = self_p_values(
            resamples, repeated, _SELF_TRIALS, seed=config.seed, weight_V=weight_V, of_mean=of_mean
        )
        power[figure] = {
            "reference": reference,
            "detectable": float(np.median([found.detectable for found in tested.values()]))
            if tested
            else None,
            "self_marked": float(np.mean(np.array(own) < SIGNIFICANT)) if own else None,
            "self_trials": len(own),
        }
    return against, power
