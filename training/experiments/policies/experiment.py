"""`compare policies`: where the best policy is known, among simulated users, and on a log."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32, I64
from training.evaluation.bootstrap import Measure
from training.experiments.data import ExperimentData, load_experiment_data
from training.experiments.engine import Experiment, Fits, medians
from training.experiments.jobs import Progress, Result
from training.experiments.policies.config import ChainConfig, PoliciesConfig
from training.experiments.policies.logged import Decisions, decisions, video_vectors
from training.experiments.policies.methods import METHODS, FittingLog, Method, fit_policy, write_both
from training.experiments.policies.scale import measure_scale
from training.experiments.policies.simulated import Log, run_sessions, vectors_of
from training.experiments.policies.tabular import TabularProcess
from training.experiments.results import Row
from training.off_policy import Terms, estimate
from training.policies import (
    Policy,
    Steps,
    discounts,
    doubly_robust_return,
    fitted_q_evaluation,
    mixture,
    returns,
    session_numbers,
)
from training.simulator import Audience, Population

_LOGGED_BEST: Final = 0.25
"""How often the log of a tabular process shows the best video on purpose."""
_RANDOM: Final = 0.4
"""How often the log of the simulator does not follow its policy."""


def uniform(_: Tensor, candidates: Tensor) -> Tensor:
    """Choose at random."""
    return torch.full(candidates.shape, 1 / candidates.shape[-1])


class _Simulated(NamedTuple):
    audience: Audience
    log: Log


class PoliciesEvaluator:
    """A log as decisions, and the simulated users of a seed.

    Args:
        data: the log.
        config: of its decisions.
    """

    def __init__(self, data: ExperimentData, config: PoliciesConfig) -> None:
        self.data, self.config = data, config
        self.vectors = video_vectors(data.log, data.train, data.vocabulary.size("video_id"))
        self.fitted = self._decisions(data.train, seed=0)
        self.tested = self._decisions(data.test, seed=1)
        self.users = np.unique(self.tested.steps.user)
        self._simulated: dict[int, _Simulated] = {}
        self._logging: dict[int, Policy] = {}

    @property
    def measures(self) -> Mapping[str, Measure]:
        """None: policies are compared by seeds, and with the log by users."""
        return {}

    def describe_window(self, rows: I64) -> dict[str, Any]:
        """Return the sessions of a window, and the mean seconds of an exposure."""
        log = self.data.log
        if not len(rows):
            return {}
        sessions = session_numbers(log.user[rows], log.timestamp_ms[rows])
        return {"sessions": int(sessions[-1]) + 1, "watch_time_s": float(log.watch_time_s[rows].mean())}

    def simulated(self, seed: int) -> _Simulated:
        """Return simulated users after the sessions of the log, and the log."""
        if seed not in self._simulated:
            config = self.config.simulator
            population = Population.draw(config.population, seed)
            audience = Audience(population, seed)
            first = run_sessions(
                audience, uniform, sessions=config.random_sessions, candidates=config.candidates, seed=seed
            )
            with temporary_log(
                first.steps, first.is_long_view.astype(np.float32), vectors_of(population)
            ) as log:
                rule = fit_policy(_method("greedy label"), log, config.learning, seed)
            policy = mixture(rule, uniform, _RANDOM)
            logged = run_sessions(
                audience,
                policy,
                sessions=config.logged_sessions,
                candidates=config.candidates,
                seed=seed + 1000,
            )
            self._simulated = {seed: _Simulated(audience, logged)}  # of one seed alone: it is large
        return self._simulated[seed]

    def logging(self, seed: int) -> Policy:
        """Return the policy of the log as a network has learned it: propensities are not known."""
        if seed not in self._logging:
            with temporary_log(self.fitted.steps, self.fitted.label, self.vectors) as log:
                self._logging = {seed: fit_policy(_method("cloning"), log, self.config.log.learning, seed)}
        return self._logging[seed]

    def _decisions(self, rows: I64, seed: int) -> Decisions:
        return decisions(self.data, rows, self.vectors, self.config.log, seed=seed)


@contextmanager
def temporary_log(steps: Steps, label_N: F32, vectors: F32) -> Iterator[FittingLog]:
    """Write a log that exists while policies are fitted on it."""
    with tempfile.TemporaryDirectory() as folder:
        yield write_both(Path(folder), steps, label_N, vectors)


def load_evaluator(folder: Path, config: PoliciesConfig) -> PoliciesEvaluator:
    """Read a log and split its users in halves: windows of days would cut returns across days short."""
    whole = load_experiment_data(folder, test_days=1, stop_days=1, min_count=config.min_count)
    users = np.random.default_rng(0).permutation(int(whole.log.user.max()) + 1)
    is_fitted = (users % 2 == 0)[whole.log.user]
    none = np.zeros(0, np.int64)
    data = replace(whole, train=np.flatnonzero(is_fitted), stop=none, test=np.flatnonzero(~is_fitted))
    return PoliciesEvaluator(data, config)


def fit_method(
    evaluator: PoliciesEvaluator, name: str, config: PoliciesConfig, seed: int, progress: Progress
) -> Result:
    """Fit one policy three times, and evaluate it where it was fitted."""
    method, started = _method(name), time.process_time()
    figures = {f"chain/{key}": value for key, value in on_chain(method, config.chain, seed).items()}
    progress(0.2)
    figures["simulator/log_s"] = float(evaluator.simulated(seed).log.session_watch_time_s.mean())
    figures["simulator/session_s"] = in_simulator(method, evaluator, seed)
    progress(0.6)
    on_log, refusal = on_the_log(method, evaluator, seed)
    figures |= {f"log/{key}": value for key, value in on_log.items()}
    # No values of users: the overlap refuses some seeds and not others.
    return {
        "figures": figures,
        "values": {},
        "refusal": refusal,
        "cpu_s": time.process_time() - started,
    }


def on_chain(method: Method, config: ChainConfig, seed: int) -> dict[str, float | None]:
    """Return the share of the best policy's value, and what estimates make of the policy's true value.

    Estimated is the policy half of the time and the log's otherwise, as on the log.
    """
    process = TabularProcess.chain(seed, states=config.states)
    logging_SA = (1 - _LOGGED_BEST) * process.uniform() + _LOGGED_BEST * process.best()
    steps = process.simulate(logging_SA, config.sessions, seed)
    label_N = (steps.reward > np.median(steps.reward)).astype(np.float32)
    others = process.simulate(logging_SA, config.sessions, seed + 1000)
    with temporary_log(steps, label_N, process.vectors()) as log:
        policy = fit_policy(method, log, config.learning, seed)
        half = mixture(policy, process.as_policy(logging_SA), 0.5)
        truth = process.value(process.table(half))
        network = fitted_q_evaluation(log.watch_time, log.vectors, half, config.learning, seed=seed)
    found = doubly_robust_return(others, network, half, None, config.learning)
    refused = found.overlap.refusal is not None
    return {
        "share_of_best": process.value(process.table(policy)) / process.value(process.best()),
        "myopic_share": process.value(process.myopic()) / process.value(process.best()),
        "fitted_error": abs(found.fitted.value / truth - 1),
        "doubly_robust_error": None if refused else abs(found.doubly_robust.value / truth - 1),
    }


def in_simulator(method: Method, evaluator: PoliciesEvaluator, seed: int) -> float:
    """Return the mean watch time of whole sessions under the policy, s."""
    config, simulated = evaluator.config.simulator, evaluator.simulated(seed)
    population, log = simulated.audience.population, simulated.log
    with temporary_log(log.steps, log.is_long_view.astype(np.float32), vectors_of(population)) as fitting:
        policy = fit_policy(method, fitting, config.learning, seed)
    found = run_sessions(
        copy.deepcopy(simulated.audience),
        policy,
        sessions=config.tested_sessions,
        candidates=config.candidates,
        seed=seed + 2000,
    )
    return float(found.session_watch_time_s.mean())


def on_the_log(
    method: Method, evaluator: PoliciesEvaluator, seed: int
) -> tuple[dict[str, float | None], str | None]:
    """Return estimates of the return of users who were not fitted on, s, and why they are refused."""
    config = evaluator.config.log
    logging = evaluator.logging(seed)
    with temporary_log(evaluator.fitted.steps, evaluator.fitted.label, evaluator.vectors) as log:
        policy = mixture(fit_policy(method, log, config.learning, seed), logging, 1 - config.share)
        network = fitted_q_evaluation(log.watch_time, log.vectors, policy, config.learning, seed=seed)
    steps = evaluator.tested.steps
    found = doubly_robust_return(steps, network, policy, logging, config.learning)
    starts = np.append(True, discounts(steps, config.learning)[:-1] == 0)
    logged_P1 = returns(steps, config.learning)[starts, None]
    lead = estimate(found.doubly_robust - Terms(logged_P1, np.ones_like(logged_P1)), found.user)
    refusal = found.overlap.refusal
    known = refusal is None
    return {
        "logged_s": float(logged_P1.mean()),
        "fitted_s": found.fitted.value if known else None,
        "doubly_robust_s": found.doubly_robust.value if known else None,
        "lead_s": lead.value if known else None,
        "lead_low_s": lead.interval[0] if known else None,
        "lead_high_s": lead.interval[1] if known else None,
        "effective_sample_size": found.overlap.effective_sample_size,
        "support": found.overlap.support,
    }, refusal


def describe_fits(method: Method, fits: Sequence[Result]) -> dict[str, Any]:
    """Return the cost, and the first reason why the log cannot answer."""
    refusals = [fit["refusal"] for fit in fits if fit["refusal"] is not None]
    return {
        "ablation": method.ablation,
        **medians(fits, ("cpu_s",)),
        "refusals": len(refusals),
        "refusal": refusals[0] if refusals else None,
    }


def sections(
    evaluator: PoliciesEvaluator,
    config: PoliciesConfig,
    methods: Sequence[Method],
    rows: Sequence[Row],
    fits: Fits,
) -> dict[str, Any]:
    """Return what large catalogues cost."""
    return {"scale": measure_scale(config.scale)}


def _method(name: str) -> Method:
    return next(method for method in METHODS if method.name == name)


POLICIES: Final = Experiment(
    name="policies",
    config=PoliciesConfig,
    methods=METHODS,
    reference="q-learning",
    load=load_evaluator,
    fit=fit_method,
    describe_fits=describe_fits,
    sections=sections,
    columns=(
        ("chain/share_of_best", "share of best", 3),
        ("simulator/session_s", "session, s", 1),
        ("log/doubly_robust_s", "log (DR), s", 2),
    ),
)
