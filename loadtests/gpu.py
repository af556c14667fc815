"""`python -m loadtests.gpu`: the ranker on an NVIDIA GPU and on the CPU of the same host, as JSON.

Needs the `gpu` extra (`pip install '.[gpu]'` in place of `.[cpu]`) and CUDA 13 with cuDNN 9. It times what
the service does there: slates of several users, padded to a bucket, in one run of the graph. Without a GPU it
ends with an error; `--cpu-only` times the CPU alone, and the report has no GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Annotated, Any, Final

import numpy as np
import typer

from loadtests.command import BundleOption, JsonOption, log_progress, make_app, run, write_report
from loadtests.environment import version_folder
from models.errors import BadInput, ContractMismatch
from models.features import Array
from models.runtime import Bundle, Device
from service.inference.gpu_batching import rank_together
from service.pipeline.ranking import ranker_outputs

SLATES: Final = (1, 8, 64)
"""In one run of the graph."""
CANDIDATES: Final = 500
SEED: Final = 20
WARM_UP: Final = 5


def main(
    bundle: BundleOption = None,
    seconds: Annotated[float, typer.Option(help="For each device and number of slates, at most.")] = 10.0,
    cpu_only: Annotated[bool, typer.Option("--cpu-only", help="Time the CPU alone.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Time both devices and print JSON."""
    devices: tuple[Device, ...] = ("cpu",) if cpu_only else ("cuda", "cpu")
    figures: dict[str, Any] = {}
    version = version_folder(bundle)
    for device in devices:
        try:
            loaded = Bundle.load(version, device=device, threads=os.cpu_count() or 1)
        except ContractMismatch as e:
            raise BadInput(f"{e} Or time the CPU alone with --cpu-only.") from None
        log_progress("gpu", loaded.provider)
        figures[device] = {str(slates): time_runs(loaded, slates, seconds) for slates in SLATES}
    report: dict[str, Any] = {
        "gpu": None if cpu_only else _gpu_name(),
        "bundle": version.name,
        "candidates_of_a_slate": CANDIDATES,
        "figures": figures,
    }
    if not cpu_only:
        rates = {
            device: {n: row["candidates_per_s"] for n, row in figures[device].items()} for device in devices
        }
        report["cuda_over_cpu"] = {n: round(rate / rates["cpu"][n], 2) for n, rate in rates["cuda"].items()}
    report = write_report("python -m loadtests.gpu" + " --cpu-only" * cpu_only, report, json_file)
    print(json.dumps(report, indent=1))


def time_runs(bundle: Bundle, slates: int, seconds: float) -> dict[str, float]:
    """Time runs of the graph over so many slates, one after the other.

    Returns:
        `candidates_per_s`; `p50_ms` and `p99_ms` of a run, which each of its users waits for; `runs`.
    """
    rng = np.random.default_rng(SEED)
    inputs = [_slate(bundle, rng) for _ in range(slates)]
    names = ranker_outputs(bundle, explain=False)
    for _ in range(WARM_UP):
        rank_together(bundle, inputs, names)
    took_s: list[float] = []
    end_s = time.perf_counter() + seconds
    while not took_s or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        rank_together(bundle, inputs, names)
        took_s.append(time.perf_counter() - start_s)
    return {
        "candidates_per_s": round(slates * CANDIDATES / float(np.mean(took_s))),
        "p50_ms": round(float(np.percentile(took_s, 50)) * 1e3, 3),
        "p99_ms": round(float(np.percentile(took_s, 99)) * 1e3, 3),
        "runs": len(took_s),
    }


def _slate(bundle: Bundle, rng: np.random.Generator) -> dict[str, Array]:
    """Return a user with a full sequence of known videos, and known candidates."""
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


def _gpu_name() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


app = make_app("gpu", main)

if __name__ == "__main__":
    run(app)
