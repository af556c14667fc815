"""What a training step costs under each balancer: one model, one batch, taken in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch

from training.balance import balanced_backward
from training.compare.objectives._fit import fresh_ranker
from training.compare.objectives._methods import Method
from training.compare.objectives._world import CompareObjectivesConfig, World
from training.encoders import inputs_for
from training.train.rankers import targets

ROUNDS: Final = 25
"""Every method makes a step in each."""
_GRAMIANS: Final = 200
"""Calls of a balancer alone, on the Gramian of that batch."""


def step_costs(
    world: World, methods: Sequence[Method], config: CompareObjectivesConfig
) -> list[dict[str, Any]]:
    """Processor milliseconds of one step (losses, gradients, update) under each method, on one thread.

    Processor time, with the methods in turns and the median of the rounds: a busy machine is as busy for all.

    Returns:
        By method `step_ms`, `balancer_ms` (the weights from a Gramian alone) and `ratio`, the median over the
        rounds of its step to the cheapest step of TorchJD's that has a Gramian.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(world, [m for m in methods if not m.alone and not m.ablation], config)
    finally:
        torch.set_num_threads(threads)


def _measured(
    world: World, methods: Sequence[Method], config: CompareObjectivesConfig
) -> list[dict[str, Any]]:
    ranker = fresh_ranker(world, config, config.seed)
    log, rows, length = world.log, world.known, config.loop.sequence_length
    statistics = torch.from_numpy(ranker.encoder.fit_tables(log, rows))
    # Rows with histories of middling length.
    steps = np.minimum(np.arange(len(log)) - log.first_row(), length)[rows]
    order = np.argsort(steps, kind="stable")
    start = max(0, min(int(0.7 * len(order)), len(order) - config.loop.batch_size))
    pick = order[start : start + config.loop.batch_size]
    x = inputs_for(log, rows[pick], length)
    watch_time = torch.from_numpy(log.watch_time_s[rows[pick]])[:, None]
    target = torch.from_numpy(targets(ranker, log, rows[pick]))[:, None]
    encoder = list(ranker.encoder.parameters())
    optimiser = torch.optim.AdamW(ranker.parameters(), lr=config.loop.learning_rate)
    balancers = [m.balancer(config.objectives) if m.balancer else None for m in methods]
    ranker.train()

    took: list[list[float]] = [[] for _ in methods]
    for turn in range(ROUNDS + 1):
        for spent, balancer in zip(took, balancers, strict=True):
            began = time.process_time()
            optimiser.zero_grad()
            losses = ranker.losses(x, statistics[pick][:, None], watch_time, target)
            if balancer is None:
                torch.stack(losses.each).sum().backward()  # type: ignore[no-untyped-call]
            else:
                balanced_backward(losses.each, losses.shared, encoder, balancer)
            optimiser.step()
            if turn:  # the first one warms up
                spent.append(time.process_time() - began)

    torch.manual_seed(config.seed)
    gradient = torch.randn(len(ranker.objectives), 50)
    gramian = gradient @ gradient.T
    theirs = [i for i, m in enumerate(methods) if m.balancer is not None and m.name != "gradcraft"]
    cheapest = min(theirs, key=lambda i: float(np.median(took[i])), default=None)
    found = []
    for method, spent, balancer in zip(methods, took, balancers, strict=True):
        alone = None
        if balancer is not None:
            began = time.process_time()
            for _ in range(_GRAMIANS):
                balancer(gramian)
            alone = (time.process_time() - began) / _GRAMIANS * 1e3
        ratio = None if cheapest is None else float(np.median(np.divide(spent, took[cheapest])))
        found.append(
            {
                "method": method.name,
                "step_ms": float(np.median(spent)) * 1e3,
                "balancer_ms": alone,
                "ratio": ratio,
                "cheapest": None if cheapest is None else methods[cheapest].name,
            }
        )
    return found
