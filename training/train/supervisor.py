"""`fit --processes N`: torchrun around the same command, begun again where a process dies."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Final

from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from training.train.process_group import LOST

MOST_RESTARTS: Final = 10
_FOLLOWED: Final = (LOST, 128 + signal.SIGTERM)
"""Exit codes of processes that end because another one has: they lost it, or torchrun ended them."""


def fit_in_processes(processes: int, arguments: Sequence[str], report: Callable[[str], None]) -> int:
    """Run `python -m training` in several processes that fit together, and begin again from the last
    checkpoint when one of them is killed.

    torchrun's own restarts hang in gloo's rendezvous once a process was killed: each start here has a
    rendezvous of its own.

    Args:
        processes: how many.
        arguments: of `python -m training`, beginning with `fit`.
        report: called with a line when a process was killed.

    Returns:
        An exit code: that of the process that failed first, or of the signal that ended this one.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    for restart in range(MOST_RESTARTS + 1):
        again = ["--resume"] if restart and "--resume" not in arguments else []
        try:
            _launch(processes, [*arguments, *again])
            return 0
        except SignalException as e:
            return 128 + int(e.sigval)
        except ChildFailedError as e:
            codes = {rank: failure.exitcode for rank, failure in e.failures.items()}
        failed = [code for code in codes.values() if code > 0 and code not in _FOLLOWED]
        if failed:
            return failed[0]
        killed = [f"process {n} by {signal.Signals(-code).name}" for n, code in codes.items() if code < 0]
        report(f"killed: {', '.join(killed) or 'a process'}; beginning again from the last checkpoint")
    report(f"gave up after {MOST_RESTARTS} restarts; look for what kills the processes")
    return 1


def _launch(processes: int, arguments: Sequence[str]) -> None:
    """Run the processes once, with the first one's output on this one's."""
    with TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(folder, local_ranks_filter={0}),
        )
        elastic_launch(config, sys.executable)("-m", "training", *arguments)
