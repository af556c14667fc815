"""What the expensive steps cost: `python -m training bench meta-step | soft-topk | encoder`, as JSON."""

# Shape suffixes: B rows of the inner batch, U hold-out users, C candidates, L history steps.

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from training.encoders import DIN, DinInputs, FeedbackEncoder, FeedbackEncoderConfig, RankerInputs
from training.labelcraft import BilevelLearner, Candidates, LabelCraft, LabelCraftConfig, soft_top_k

_TABLES = {"users": 989, "videos": 46_629, "groups": 93, "tags": 786}
"""Rows of the four tables of the authors' Kuaishou data, padding included."""


def bench_meta_step(
    batch: int = 4096,
    history: int = 100,
    users: int = 494,
    candidates: int = 60,
    repeats: int = 5,
    seed: int = 0,
    config: LabelCraftConfig | None = None,
) -> dict[str, Any]:
    """One mini-batch of both levels at the authors' sizes, on made-up ids.

    The hold-out users are one padded batch; each candidate sees the `history` steps before its own.

    Args:
        batch: rows of the inner step.
        history: steps of each row.
        users: hold-out users of the outer step.
        candidates: of each.
        repeats: timed steps, after one that is not.
        seed: of the ids and weights.
        config: rates; sizes are the paper's unless it says otherwise.

    Returns:
        `seconds` (median of a step), `stages` (median of each, seconds), `peak_mib` (resident memory of the
        process at its highest, torch and all), `threads` and the shapes.
    """
    torch.manual_seed(seed)
    config = config or LabelCraftConfig()
    learner = BilevelLearner(DIN(**_TABLES, config=config.recommender), LabelCraft(config), config)
    inner = DinInputs(_below(_TABLES["users"], batch), _ids(batch, 1), _ids(batch, history), None)
    held = DinInputs(
        _below(_TABLES["users"], users),
        _ids(users, candidates),
        _ids(users, history + candidates),
        _before(candidates, history).expand(users, -1, -1),
    )
    outer = Candidates(
        watch_time=torch.rand(users, candidates),
        duration=torch.rand(users, candidates),
        explicit=(torch.rand(users, candidates) < 0.05).float(),
        author=_below(_TABLES["videos"], users, candidates),
        feedback=torch.rand(users, candidates, 8),
        mask=torch.ones(users, candidates, dtype=torch.bool),
    )
    feedback = torch.rand(batch, 8)
    stages: dict[str, list[float]] = {}

    def one_step() -> None:
        at = time.perf_counter()

        def note(stage: str) -> None:
            nonlocal at
            now = time.perf_counter()
            stages.setdefault(stage, []).append(now - at)
            at = now

        learner.step(inner, feedback, (held, outer), note)

    seconds = _median_seconds(one_step, repeats)
    return {
        "seconds": seconds,
        "stages": {name: round(statistics.median(times[1:]), 4) for name, times in stages.items()},
        "peak_mib": _peak_mib(),
        "threads": torch.get_num_threads(),
        "batch": batch,
        "history": history,
        "users": users,
        "candidates": candidates,
        "repeats": repeats,
    }


def bench_soft_topk(
    users: int = 494, candidates: int = 60, k: int = 10, repeats: int = 10, seed: int = 0
) -> dict[str, Any]:
    """SOFT top-k of one padded batch of users, forward and backward.

    Returns:
        `seconds` (median of both together), `stages` (`forward`, `backward`), `peak_mib`, the shapes.
    """
    torch.manual_seed(seed)
    score_UC = torch.rand(users, candidates, requires_grad=True)
    mask_UC = torch.ones(users, candidates, dtype=torch.bool)
    weight_UC = torch.rand(users, candidates)
    stages: dict[str, list[float]] = {"forward": [], "backward": []}

    def once() -> None:
        began = time.perf_counter()
        total = (soft_top_k(score_UC, mask_UC, k) * weight_UC).sum()
        between = time.perf_counter()
        torch.autograd.grad(total, score_UC)
        stages["forward"].append(between - began)
        stages["backward"].append(time.perf_counter() - between)

    seconds = _median_seconds(once, repeats)
    return {
        "seconds": seconds,
        "stages": {name: round(statistics.median(times[1:]), 4) for name, times in stages.items()},
        "peak_mib": _peak_mib(),
        "threads": torch.get_num_threads(),
        "users": users,
        "candidates": candidates,
        "k": k,
        "repeats": repeats,
    }


def bench_encoder(
    batch: int = 1, candidates: int = 200, history: int = 50, repeats: int = 20, seed: int = 0
) -> dict[str, Any]:
    """The served encoder in torch, forward alone: `batch` users, each with so many candidates and steps.

    Returns:
        `seconds` (median), `stages` (`forward`), `peak_mib`, the shapes.
    """
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
    )
    with torch.no_grad():
        seconds = _median_seconds(lambda: encoder(inputs), repeats)
    return {
        "seconds": seconds,
        "stages": {"forward": seconds},
        "peak_mib": _peak_mib(),
        "threads": torch.get_num_threads(),
        "batch": batch,
        "candidates": candidates,
        "history": history,
        "repeats": repeats,
    }


def _median_seconds(step: Callable[[], None], repeats: int) -> float:
    """Of `repeats` steps, after one that fills caches."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return round(statistics.median(times[1:]), 4)


def _below(end: int, *shape: int) -> Tensor:
    return torch.randint(1, end, shape)


def _ids(*shape: int) -> Tensor:
    return torch.stack([_below(_TABLES[name], *shape) for name in ("videos", "groups", "tags")], -1)


def _before(candidates: int, history: int) -> Tensor:
    """`[1, C, L]` candidate c sees steps c … c + history - 1 of a timeline of history + C."""
    step = torch.arange(history + candidates)
    first = torch.arange(candidates)[:, None]
    return ((step >= first) & (step < first + history))[None]


def _peak_mib() -> int:
    """Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
