"""`python -m loadtests.offline`: what it costs to prepare, label and fit a log, by the row, as JSON.

Each command runs alone on two simulated logs of different sizes. The line through both says what a larger
log takes, and `python -m loadtests.capacity` draws it to 10^10 rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from loadtests.closed_loop import FIT, set_options
from loadtests.command import (
    BundleOption,
    JsonOption,
    LoadtestError,
    log_progress,
    make_app,
    print_report,
    run,
)
from loadtests.environment import version_folder

ROWS_A_USER: Final = 60
ROWS_A_VIDEO: Final = 50
DAYS: Final = 10

Costs = dict[str, Any]


def main(
    rows: Annotated[
        tuple[int, int], typer.Option(min=10_000, help="Of the logs that are prepared and labelled.")
    ] = (250_000, 1_000_000),
    fit_rows: Annotated[tuple[int, int], typer.Option(min=10_000, help="Of the logs that are fitted.")] = (
        20_000,
        60_000,
    ),
    bundle: BundleOption = None,
    report: JsonOption = None,
) -> None:
    """Run each command on two sizes. Needs the extra `train`."""
    if rows[0] >= rows[1] or fit_rows[0] >= fit_rows[1]:
        raise LoadtestError("the second log must be the larger one.")
    version = version_folder(bundle)
    figures: dict[str, list[Costs]] = {"prepare": [], "label": [], "fit": []}
    with tempfile.TemporaryDirectory(prefix="offline-") as folder:
        for count in rows:
            data = _prepared(Path(folder), count, figures["prepare"])
            labels = data.with_suffix(".labels.parquet")
            costs = _costs(count, "label", "--bundle", version, "--data", data, "--out", labels)
            figures["label"].append(costs | _bytes(data, labels))
        for count in fit_rows:
            data = _prepared(Path(folder), count, [])
            out = data.with_suffix(".run")
            options = ("--threads", 1, *set_options(FIT))
            costs = _costs(count, "fit", "any_log", "--data", data, "--out", out, *options)
            figures["fit"].append(costs | _bytes(data, out))
    command = "python -m loadtests.offline --json loadtests/offline.json"
    print_report(command, {"config": {"fit": list(FIT)}, "figures": figures}, report)


def _prepared(folder: Path, rows: int, figures: list[Costs]) -> Path:
    """Simulate a log, prepare it as one's own, and add what that cost to the figures."""
    made = Path(tempfile.mkdtemp(dir=folder))
    config, simulated, data = made / "config.json", made / "simulated", made / "data"
    size = {"users": rows // ROWS_A_USER, "videos": rows // ROWS_A_VIDEO, "exposures": rows, "days": DAYS}
    config.write_text(json.dumps(size))
    # By a process of its own: a child's peak memory begins with that of the process that starts it.
    _costs(rows, "prepare", "--dataset", "synthetic", "--source", config, "--out", simulated)
    log = simulated / "interactions.parquet"
    costs = _costs(rows, "prepare", "--dataset", "own", "--source", log, "--out", data)
    figures.append(costs | _bytes(log, data))
    return data


def _costs(rows: int, *arguments: object) -> Costs:
    """Run a command of `training`, and return what it took.

    Raises:
        LoadtestError: it fails.
    """
    log_progress("offline", f"{rows:,} rows: python -m training {' '.join(map(str, arguments[:2]))}")
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as errors:
        begun = time.monotonic()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            raise LoadtestError(f"python -m training {arguments[0]}: {errors.read().strip()[-500:]}")
        seconds = time.monotonic() - begun
    return {
        "rows": rows,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "seconds": round(seconds, 2),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
    }


def _bytes(read: Path, written: Path) -> Costs:
    return {"bytes_read": _size(read), "bytes_written": _size(written)}


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())


app = make_app("offline", main)

if __name__ == "__main__":
    run(app)
