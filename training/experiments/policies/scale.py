"""How large a catalogue may be: the dense layer until it is refused, and candidates beyond that."""

# Shape suffixes: V videos, N exposures, C candidates, E columns of a vector.

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.arrays import F32
from models.errors import BadInput
from training.experiments.policies.config import ScaleConfig
from training.policies import (
    QLearningConfig,
    Steps,
    dense_head_bytes,
    dense_network,
    fit_q,
    greedy,
    write_steps,
)

_WIDTH: Final = 16
_CANDIDATES: Final = 10
_STATES: Final = 32
_BATCH: Final = 32
_DENSE: Final = (6_000, 60_000, 600_000)
_BLOCK: Final = 32_768


def measure_scale(config: ScaleConfig) -> dict[str, Any]:
    """Return what either kind of head costs at growing catalogues, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    out: dict[str, Any] = {"dense": []}
    for videos in (*_DENSE, config.videos):
        with context.Pool(1) as pool:
            out["dense"].append(pool.apply(dense_costs, (videos,)))
    with context.Pool(1) as pool:
        out["candidates"] = pool.apply(candidate_costs, (config,))
    return out


def dense_costs(videos: int) -> dict[str, Any]:
    """Return bytes and seconds of one update of the dense layer, or why it is refused and how soon."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"videos": videos, "bytes": dense_head_bytes(videos), "refused": None}
    started = time.monotonic()
    try:
        network = dense_network(_STATES, videos)
    except BadInput as e:
        return found | {"refused": str(e), "refused_s": time.monotonic() - started, "update_s": None}
    optimiser = torch.optim.Adam(network.parameters())
    state = torch.randn(_BATCH, _STATES)
    for update in range(3):  # the first allocates gradients and moments
        if update == 1:
            started = time.monotonic()
        optimiser.zero_grad()
        network(state).square().mean().backward()
        optimiser.step()
    return found | {"update_s": (time.monotonic() - started) / 2}


def candidate_costs(config: ScaleConfig) -> dict[str, Any]:
    """Fit Q on a planted log of a large catalogue, and return memory, time, and what was learned.

    A video earns what its vector says, and its choice moves the state towards that vector. The log is random.
    """
    torch.set_num_threads(1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "vectors.npy"
        vectors: F32 = np.lib.format.open_memmap(path, "w+", np.float32, (config.videos, _WIDTH))
        random = np.random.default_rng(0)
        for start in range(0, config.videos, _BLOCK * 8):
            part = vectors[start : start + _BLOCK * 8]
            part[:] = random.normal(size=part.shape)
        blocks = _planted(vectors, config.exposures, random)
        other = next(blocks)
        write_steps(Path(temporary) / "steps", blocks)
        learning = QLearningConfig(updates=config.updates, average=0.9)
        network = fit_q(Path(temporary) / "steps", vectors, learning)
        with torch.no_grad():
            chosen = greedy(network)(torch.from_numpy(other.state), torch.from_numpy(other.candidates))
        earned = vectors[other.candidates[np.arange(len(other.action)), chosen.argmax(dim=1).numpy()], 0]
    return {
        "videos": config.videos,
        "exposures": config.exposures,
        "updates": config.updates,
        "seconds": time.monotonic() - started,
        "peak_bytes": _peak_bytes(),
        "logged_reward": float(other.reward.mean()),
        "chosen_reward": float(earned.mean()),
    }


def _planted(vectors: F32, exposures: int, random: np.random.Generator) -> Iterator[Steps]:
    """Yield sessions of ten random exposures, in blocks; the first one is for the evaluation."""
    for start in range(0, exposures + _BLOCK, _BLOCK):
        rows = _BLOCK // 10 * 10
        candidate_NC = random.integers(len(vectors), size=(rows, _CANDIDATES))
        action_N = random.integers(_CANDIDATES, size=rows)
        shown_NE = vectors[candidate_NC[np.arange(rows), action_N]]
        state_NE = np.roll(shown_NE, 1, axis=0)
        state_NE[::10] = 0.0
        user_N = start + np.arange(rows) // 10
        yield Steps(
            user=user_N,
            session=user_N,
            state=state_NE,
            candidates=candidate_NC,
            action=action_N,
            reward=(shown_NE[:, 0] + random.normal(0, 0.5, rows)).astype(np.float32),
            propensity=np.full(rows, 1 / _CANDIDATES, np.float32),
        )


def _peak_bytes() -> int:
    """Not of `getrusage`, which in a new process starts at the peak of the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        kilobytes = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(kilobytes.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
