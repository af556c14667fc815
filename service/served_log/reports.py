"""The newest report of each experiment, of those that are kept beside the served log."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from models.experiment_report import FILE, FOLDER, ExperimentReport

MAX_REPORTS: Final = 100
"""Most experiments of one answer."""

_report: Final = msgspec.json.Decoder(ExperimentReport)


def newest_reports(folder: Path) -> list[ExperimentReport]:
    """Return the newest report of each experiment, the newest first; what is no report is passed over.

    Args:
        folder: of the log.
    """
    written: dict[Path, list[tuple[int, Path]]] = defaultdict(list)
    for path in (folder / FOLDER).glob(f"*/*/{FILE}"):
        with contextlib.suppress(OSError):  # it has just been removed
            written[path.parent.parent].append((path.stat().st_mtime_ns, path))
    newest = sorted(map(max, written.values()), reverse=True)[:MAX_REPORTS]
    reports = []
    for _, path in newest:
        with contextlib.suppress(OSError, ValueError):
            reports.append(_report.decode(path.read_bytes()))
    return reports
