"""`python -m loadtests.gpu`: the ranker on an NVIDIA GPU against the CPU beside it, in one run, as JSON.

Needs the `gpu` extra (`pip install '.[gpu]'` in place of `.[cpu]`) and CUDA 13 with cuDNN 9. What is timed is
what the service does there: slates of several users, filled up to a bucket, in one run of the graph. Without
a GPU it says so and ends; `--cpu-only` times the CPU alone, and the report says that it is of no GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from loadtests.machine import stamp
from loadtests.program import version_folder
from models.errors import ContractMismatch, ReelrankError
from models.features import Array
from models.runtime import Bundle, Device
from service.inference.gpu_batching import ranked_together
from service.pipeline.ranking import ranker_outputs

SLATES: Final = (1, 8, 64)
"""Of one run."""
CANDIDATES: Final = 500
SEED: Final = 20
WARM_UP: Final = 5


def main(
    bundle: Annotated[
        Path | None, typer.Option(help="A folder of versions, or one; the released one if left out.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="For each device and number of slates, at most.")] = 10.0,
    cpu_only: Annotated[bool, typer.Option("--cpu-only", help="There is no GPU, and that is known.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
) -> None:
    """Time both devices and print JSON."""
    devices: tuple[Device, ...] = ("cpu",) if cpu_only else ("cuda", "cpu")
    found: dict[str, Any] = {}
    try:
        folder = version_folder(bundle)
        for device in devices:
            loaded = Bundle.load(folder, device=device, threads=os.cpu_count() or 1)
            print(f"gpu: {loaded.provider}", file=sys.stderr, flush=True)
            found[device] = {str(slates): timed(loaded, slates, seconds) for slates in SLATES}
    except ContractMismatch as e:
        print(f"gpu: {e} Or time the CPU alone with --cpu-only.", file=sys.stderr)
        sys.exit(2)
    except ReelrankError as e:
        print(f"gpu: {e}", file=sys.stderr)
        sys.exit(2)
    report = stamp("python -m loadtests.gpu" + " --cpu-only" * cpu_only) | {
        "gpu": None if cpu_only else _gpu(),
        "bundle": folder.name,
        "candidates_of_a_slate": CANDIDATES,
        "figures": found,
    }
    if not cpu_only:
        report["cuda_over_cpu"] = {
            slates: round(figures["candidates_per_s"] / found["cpu"][slates]["candidates_per_s"], 2)
            for slates, figures in found["cuda"].items()
        }
    text = json.dumps(report, indent=1) + "\n"
    if json_file is not None:
        draft = json_file.with_name(json_file.name + ".draft")
        draft.write_text(text)
        draft.replace(json_file)
    sys.stdout.write(text)


def timed(bundle: Bundle, slates: int, seconds: float) -> dict[str, float]:
    """Runs of so many slates, one after the other.

    Returns:
        `candidates_per_s`; `p50_ms` and `p99_ms` of a run, which is what each of its users waits; `runs`.
    """
    rng = np.random.default_rng(SEED)
    asked = [_slate(bundle, rng) for _ in range(slates)]
    names = ranker_outputs(bundle, explain=False)
    for _ in range(WARM_UP):
        ranked_together(bundle, asked, names)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while not took or time.perf_counter() < end:
        began = time.perf_counter()
        ranked_together(bundle, asked, names)
        took.append(time.perf_counter() - began)
    return {
        "candidates_per_s": round(slates * CANDIDATES / float(np.mean(took))),
        "p50_ms": round(float(np.percentile(took, 50)) * 1e3, 3),
        "p99_ms": round(float(np.percentile(took, 99)) * 1e3, 3),
        "runs": len(took),
    }


def _slate(bundle: Bundle, rng: np.random.Generator) -> dict[str, Array]:
    """A user with a full history of known videos, and known candidates."""
    manifest, size = bundle.manifest, bundle.vocabulary.size
    steps = manifest.sequence_length
    fields = ("video_id", "author_id", "tag", "tab")
    feedback = np.concatenate([rng.uniform(1, 60, (1, steps, 2)), rng.integers(0, 2, (1, steps, 6))], 2)
    return {
        "sequence_ids": np.stack([rng.integers(1, size(f), (1, steps)) for f in fields], 2),
        "sequence_feedback": feedback.astype(np.float32),
        "sequence_age_s": np.sort(rng.uniform(0, 1e6, (1, steps)))[:, ::-1].astype(np.float32),
        "candidate_ids": np.stack([rng.integers(1, size(f), (1, CANDIDATES)) for f in fields[:3]], 2),
        "candidate_duration_s": rng.uniform(1, 200, (1, CANDIDATES)).astype(np.float32),
        "context_ids": np.full((1, 1), bundle.vocabulary.index("tab", manifest.default_tab)),
        "profile": np.full((1, len(manifest.profile_numbers)), np.nan, np.float32),
        "profile_ids": np.ones((1, len(manifest.profile_categories)), np.int64),
    }


def _gpu() -> str:
    """As its driver calls it."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    typer.run(main)
