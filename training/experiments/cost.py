"""What a training step costs under each balancer: one model, one batch, the methods in turns."""

# Shape suffixes: T objectives, P parameters.

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from training.balance import Balancer, balanced_backward
from training.encoders import inputs_for
from training.experiments.data import ExperimentData
from training.rankers import MultiObjectiveRanker
from training.train.rankers import TrainerConfig, targets

ROUNDS: Final = 25
"""Steps of each method."""
_GRAMIAN_CALLS: Final = 200
"""Calls of a balancer alone, on a random Gramian."""


def step_costs(
    data: ExperimentData,
    ranker: MultiObjectiveRanker,
    balancers: Mapping[str, Balancer | None],
    loop: TrainerConfig,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Measure the processor time of one step (losses, gradients, update) under each method, on one thread.

    The methods take turns and the median of the rounds counts: a busy machine is as busy for all of them.

    Args:
        data: the log, whose rows make the batch.
        ranker: unfitted; it is fitted by the steps.
        balancers: by method; `None` adds the losses up.
        loop: batch size, rate and length of the sequences.
        seed: of the random Gramian that balancers are timed on alone.

    Returns:
        By method `step_ms`, `balancer_ms` (the weights from a Gramian alone) and `ratio`, the median over the
        rounds of its step to the cheapest step of TorchJD's that has a Gramian.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step_s = dict(zip(balancers, _time_steps(data, ranker, list(balancers.values()), loop), strict=True))
        torch.manual_seed(seed)
        gradient_TP = torch.randn(len(ranker.objectives), 50)
        balancer_ms = {name: _time_balancer(b, gradient_TP @ gradient_TP.T) for name, b in balancers.items()}
    finally:
        torch.set_num_threads(threads)
    torchjd = [name for name, balancer in balancers.items() if balancer is not None and name != "gradcraft"]
    cheapest = min(torchjd, key=lambda name: float(np.median(step_s[name])), default=None)
    return [
        {
            "method": name,
            "step_ms": float(np.median(seconds)) * 1e3,
            "balancer_ms": balancer_ms[name],
            "ratio": None if cheapest is None else float(np.median(np.divide(seconds, step_s[cheapest]))),
            "cheapest": cheapest,
        }
        for name, seconds in step_s.items()
    ]


def _time_balancer(balancer: Balancer | None, gramian_TT: Tensor) -> float | None:
    if balancer is None:
        return None
    started = time.process_time()
    for _ in range(_GRAMIAN_CALLS):
        balancer(gramian_TT)
    return (time.process_time() - started) / _GRAMIAN_CALLS * 1e3


def _time_steps(
    data: ExperimentData,
    ranker: MultiObjectiveRanker,
    balancers: Sequence[Balancer | None],
    loop: TrainerConfig,
) -> list[list[float]]:
    """Return the seconds of each round's step under each balancer."""
    log, rows, length = data.log, data.fitted, loop.sequence_length
    statistics = torch.from_numpy(ranker.encoder.fit_tables(log, rows))
    # Rows with sequences of middling length.
    steps = np.minimum(np.arange(len(log)) - log.first_row(), length)[rows]
    order = np.argsort(steps, kind="stable")
    start = max(0, min(int(0.7 * len(order)), len(order) - loop.batch_size))
    batch = order[start : start + loop.batch_size]
    x = inputs_for(log, rows[batch], length)
    watch_time = torch.from_numpy(log.watch_time_s[rows[batch]])[:, None]
    target = torch.from_numpy(targets(ranker, log, rows[batch]))[:, None]
    encoder = list(ranker.encoder.parameters())
    optimiser = torch.optim.AdamW(ranker.parameters(), lr=loop.learning_rate)
    ranker.train()
    step_s: list[list[float]] = [[] for _ in balancers]
    for round_ in range(ROUNDS + 1):
        for seconds, balancer in zip(step_s, balancers, strict=True):
            started = time.process_time()
            optimiser.zero_grad()
            losses = ranker.losses(x, statistics[batch][:, None], watch_time, target)
            if balancer is None:
                torch.stack(losses.each).sum().backward()  # type: ignore[no-untyped-call]
            else:
                balanced_backward(losses.each, losses.shared, encoder, balancer)
            optimiser.step()
            if round_:  # the first one warms up
                seconds.append(time.process_time() - started)
    return step_s
