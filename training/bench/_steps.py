"""The time of LabelCraft's steps and of the served encoder in torch."""

# Shape suffixes: B rows of the inner batch, U held-out users, C candidates, L history steps.

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from models.errors import BadInput
from models.features import HISTORY_COLUMNS, HISTORY_LENGTH
from training.encoders import DIN, DinInputs, FeedbackEncoder, FeedbackEncoderConfig, RankerInputs
from training.labelcraft import BilevelLearner, Candidates, LabelCraft, LabelCraftConfig, soft_top_k

_TABLES = {"users": 989, "videos": 46_629, "groups": 93, "tags": 786}
"""Rows of the four tables of the authors' Kuaishou data, padding included."""

Seed = Annotated[int, typer.Option(help="decides everything that is drawn")]
Repeats = Annotated[int, typer.Option(min=1, help="timed runs; the median is shown")]


def bench_meta_step(
    batch: Annotated[int, typer.Option(min=1, help="rows of the inner step")] = 4096,
    history: Annotated[int, typer.Option(min=1, help="steps of each row")] = 100,
    users: Annotated[int, typer.Option(min=1, help="hold-out users of the outer step")] = 494,
    candidates: Annotated[int, typer.Option(min=11, help="of each")] = 60,
    repeats: Repeats = 5,
    seed: Seed = 0,
) -> dict[str, Any]:
    """Time one mini-batch of LabelCraft's two levels, on random ids.

    The held-out users are one padded batch; each candidate sees the `history` steps before its own.
    """
    torch.manual_seed(seed)
    config = LabelCraftConfig()
    learner = BilevelLearner(DIN(**_TABLES, config=config.recommender), LabelCraft(config), config)
    inner = DinInputs(_below(_TABLES["users"], batch), _ids(batch, 1), _ids(batch, history), None)
    held_out = DinInputs(
        _below(_TABLES["users"], users),
        _ids(users, candidates),
        _ids(users, history + candidates),
        _visible(candidates, history).expand(users, -1, -1),
    )
    outer = Candidates(
        watch_time=torch.rand(users, candidates),
        duration=torch.rand(users, candidates),
        explicit=(torch.rand(users, candidates) < 0.05).float(),
        author=_below(_TABLES["videos"], users, candidates),
        feedback=torch.rand(users, candidates, 8),
        returned=torch.zeros(users, candidates),
        mask=torch.ones(users, candidates, dtype=torch.bool),
    )
    feedback = torch.rand(batch, 8)
    shape = {"batch": batch, "history": history, "users": users, "candidates": candidates}
    return _timed(lambda lap: learner.step(inner, feedback, (held_out, outer), lap), repeats, **shape)


def bench_soft_topk(
    users: Annotated[int, typer.Option(min=1)] = 494,
    candidates: Annotated[int, typer.Option(min=2)] = 60,
    k: Annotated[int, typer.Option(min=1, help="size of the slate; below the candidates")] = 10,
    repeats: Repeats = 10,
    seed: Seed = 0,
) -> dict[str, Any]:
    """Time the soft top-k of one padded batch of users, forward and backward."""
    if k >= candidates:
        raise BadInput(f"--k must be below --candidates, found {k} and {candidates}.")
    torch.manual_seed(seed)
    score_UC = torch.rand(users, candidates, requires_grad=True)
    mask_UC = torch.ones(users, candidates, dtype=torch.bool)
    weight_UC = torch.rand(users, candidates)

    def step(lap: Callable[[str], None]) -> None:
        total = (soft_top_k(score_UC, mask_UC, k) * weight_UC).sum()
        lap("forward")
        torch.autograd.grad(total, score_UC)
        lap("backward")

    return _timed(step, repeats, users=users, candidates=candidates, k=k)


def bench_encoder(
    batch: Annotated[int, typer.Option(min=1, help="users")] = 1,
    candidates: Annotated[int, typer.Option(min=1, help="of each")] = 200,
    history: Annotated[int, typer.Option(min=0, help="steps of each")] = 50,
    repeats: Repeats = 20,
    seed: Seed = 0,
) -> dict[str, Any]:
    """Time the served encoder in torch, forward alone."""
    torch.manual_seed(seed)
    sizes = (_TABLES["videos"], _TABLES["videos"], _TABLES["tags"], 17)
    encoder = FeedbackEncoder(sizes, 7, (8,) * 20, FeedbackEncoderConfig()).eval()
    inputs = RankerInputs(
        torch.stack([_below(size, batch, history) for size in sizes], -1),
        torch.rand(batch, history, 8) * 30,
        torch.rand(batch, history) * 1e5,
        torch.stack([_below(size, batch, candidates) for size in sizes[:3]], -1),
        torch.rand(batch, candidates) * 100 + 3,
        _below(17, batch, 1),
        torch.rand(batch, 7) * 100,
        _below(8, batch, 20),
        _below(sizes[0], batch, HISTORY_LENGTH),
        torch.rand(batch, HISTORY_LENGTH, len(HISTORY_COLUMNS)).round(),
        torch.zeros(batch, candidates, 0),
        torch.zeros(batch, candidates, 0, dtype=torch.int64),
    )

    def step(lap: Callable[[str], None]) -> None:
        encoder(inputs)
        lap("forward")

    with torch.no_grad():
        return _timed(step, repeats, batch=batch, candidates=candidates, history=history)


def _timed(step: Callable[[Callable[[str], None]], object], repeats: int, **shape: int) -> dict[str, Any]:
    """Run a step `repeats` times, after one run that fills caches.

    `step` calls its argument with the name of each stage as it ends.

    Returns:
        `seconds` (median of a step), `stages` (median of each), `peak_mib` (resident memory of the process at
        its highest, torch and all), `threads`, and the shape.
    """
    totals: list[float] = []
    stages: dict[str, list[float]] = {}
    for _ in range(repeats + 1):
        began = last = time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            stages.setdefault(stage, []).append(now - last)
            last = now

        step(lap)
        totals.append(time.perf_counter() - began)
    return {
        "seconds": _median(totals),
        "stages": {name: _median(times) for name, times in stages.items()},
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,  # Linux counts in KiB
        "threads": torch.get_num_threads(),
        **shape,
        "repeats": repeats,
    }


def _median(seconds: list[float]) -> float:
    return round(statistics.median(seconds[1:]), 4)


def _below(end: int, *shape: int) -> Tensor:
    return torch.randint(1, end, shape)


def _ids(*shape: int) -> Tensor:
    return torch.stack([_below(_TABLES[name], *shape) for name in ("videos", "groups", "tags")], -1)


def _visible(candidates: int, history: int) -> Tensor:
    """Candidate c sees steps c … c + history - 1 of a timeline of history + C, `[1, C, L]`."""
    step = torch.arange(history + candidates)
    first = torch.arange(candidates)[:, None]
    return ((step >= first) & (step < first + history))[None]
