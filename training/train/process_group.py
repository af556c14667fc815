"""Processes that fit one ranker together: they share the rows of each batch, and all take the same step.

Every process runs the whole fit. What is not a step of the ranker, the first one computes alone and sends to
the others; it also writes the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.arrays import I64

T = TypeVar("T")

_PATIENCE: Final = timedelta(hours=12)
"""How long the others wait for the first, which learns labels and fits tables alone."""


LOST: Final = 75
"""Exit code of a process that cannot go on, because another one has ended."""

LOST_WAITS_S: Final = 30.0
"""Before it exits, so that torchrun, which then ends it, learns first how the other one ended."""


class ProcessLost(Exception):
    """Another process of the group has ended, so that this one cannot go on."""


@contextmanager
def process_group() -> Iterator[None]:
    """Join the group that torchrun names in the environment, if it names one, and leave it at the end."""
    if not launched_by_torchrun():
        yield
        return
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def launched_by_torchrun() -> bool:
    """Return whether torchrun started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    """Return which process of the group this is; 0 is the first, or the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """Return how many processes fit together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def on_first(compute: Callable[[], T]) -> T:
    """Return what the first process computes, on every process.

    Raises:
        ProcessLost: one of them has ended.
    """
    if processes() == 1:
        return compute()
    box: list[Any] = [compute() if rank() == 0 else None]
    with _others():
        dist.broadcast_object_list(box)
    return cast(T, box[0])


def share_of(batch: I64) -> I64:
    """Return this process's rows of a batch; all of them if there are fewer rows than processes."""
    return batch if len(batch) < processes() else batch[rank() :: processes()]


def average(losses: Sequence[float], parameters: Sequence[nn.Parameter], rows: int) -> Sequence[float]:
    """Average losses and gradients over the processes, weighted by their rows.

    Where a loss is a mean over rows, these are loss and gradient of the whole batch.

    Args:
        losses: of this process's rows.
        parameters: whose gradients are replaced.
        rows: how many rows this process had.

    Returns:
        The averaged losses.

    Raises:
        ProcessLost: one of the processes has ended.
    """
    if processes() == 1:
        return losses
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    figures = torch.tensor([1.0, *losses])
    sums: Tensor = torch.cat([figures, *(gradient.flatten() for gradient in gradients)]) * rows
    with _others():
        dist.all_reduce(sums)
    means = torch.split(sums / sums[0], [len(figures), *(gradient.numel() for gradient in gradients)])
    for parameter, gradient in zip(parameters, means[1:], strict=True):
        parameter.grad = gradient.view_as(parameter)
    return cast(list[float], means[0][1:].tolist())


@contextmanager
def _others() -> Iterator[None]:
    """Raise `ProcessLost` for what gloo raises when a connection breaks."""
    try:
        yield
    except RuntimeError as e:
        raise ProcessLost("another process of this fit has ended.") from e
