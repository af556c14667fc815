"""A log of one's own with columns of its own, small, for the tests to spoil."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from models.errors import BadInput
from training.data import Dataset, OwnLog, load, prepare

Row = dict[str, object]
FIRST_S = 1_700_000_000


def row(user: object, video: object, second: int, **change: object) -> Row:
    """A clean row."""
    return {
        "uid": user, "vid": video, "ts": FIRST_S + second, "play_seconds": 12.5, "length": 25.0,
        "liked": 0, "shared": 0, "creator_id": "c1", "category": "pets",
    } | change  # fmt: skip


def rows() -> list[Row]:
    """Twelve clean rows, oldest first."""
    return [row(f"u{n % 3}", f"v{n % 4}", 60 * n, liked=int(n == 5)) for n in range(12)]


def write(path: Path, table: list[Row]) -> Path:
    """Write rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(table, infer_schema_length=None, strict=False).write_csv(path)
    return path


def prepared(source: Path, out: Path, *changes: str, **own: object) -> tuple[Dataset, list[str]]:
    """Return what `prepare` makes of a log, and the lines it reports."""
    lines: list[str] = []
    options = OwnLog(changes=changes, **own)  # type: ignore[arg-type]
    summary = prepare("own", source, out, own=options, report=lines.append, progress=False)
    return load(summary.out), lines


def refusal(source: Path, out: Path, *changes: str, **own: object) -> str:
    """Return the one line that `prepare` ends with; nothing may be left behind."""
    with pytest.raises(BadInput) as caught:
        prepared(source, out, *changes, **own)
    assert not out.exists()
    assert not [p for p in out.parent.iterdir() if p.name.startswith(".")]
    assert "\n" not in str(caught.value)
    return str(caught.value)
