"""`python -m loadtests.gpu`: the ranker on an NVIDIA GPU and on the CPU of the same host, as JSON.

Needs the `gpu` extra (`pip install '.[gpu]'` in place of `.[cpu]`) and CUDA 13 with cuDNN 9. It times what
the service does there: slates of several users, padded to a bucket, in one run of the graph. Without a GPU it
ends with an error; `--cpu-only` times the CPU alone, and the report has no GPU.
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from typing import Annotated, Any, Final

import typer

from loadtests.bench import ranker_inputs
from loadtests.command import BundleOption, JsonOption, log_progress, make_app, print_report, run
from loadtests.driver import percentiles_ms, time_calls
from loadtests.environment import version_folder
from loadtests.traffic import Traffic
from models.errors import BadInput, ContractMismatch
from models.runtime import Bundle, Device
from service.inference.gpu_batching import rank_together
from service.pipeline.ranking import ranker_outputs

SLATES: Final = (1, 8, 64)
"""In one run of the graph."""
CANDIDATES: Final = 500
SEED: Final = 20
WARM_UP: Final = 5
MOST_RUNS: Final = 100_000


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
    print_report("python -m loadtests.gpu" + " --cpu-only" * cpu_only, report, json_file)


def time_runs(bundle: Bundle, slates: int, seconds: float) -> dict[str, float]:
    """Time runs of the graph over so many slates, one after the other.

    Returns:
        `candidates_per_s`; `p50_ms` and `p99_ms` of a run, which each of its users waits for; `runs`.
    """
    traffic = Traffic(SEED, slates, list(bundle.vocabulary.id_to_index("video_id")))
    length = bundle.manifest.sequence_length
    inputs = [
        ranker_inputs(bundle, traffic.slate(user, CANDIDATES), traffic.history_events(length, [user]))
        for user in traffic.users
    ]
    call = partial(rank_together, bundle, inputs, ranker_outputs(bundle, {}, explain=False))
    time_calls(call, WARM_UP)
    took_s = time_calls(call, MOST_RUNS, seconds)
    p50_p99 = {f"{name}_ms": ms for name, ms in percentiles_ms(took_s, ("p50", "p99")).items()}
    return {"candidates_per_s": round(slates * CANDIDATES / took_s.mean()), **p50_p99, "runs": len(took_s)}


def _gpu_name() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


app = make_app("gpu", main)

if __name__ == "__main__":
    run(app)
