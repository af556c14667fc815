"""Every published log that `prepare` reads, small and in its published layout, for the tests to spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from models.errors import BadInput
from tests.training import kuairand_csv, kuairec_csv, wechat_csv
from tests.training.kuairand_csv import Row
from training.data import Dataset, load, prepare


class Release(NamedTuple):
    """How a published log is written: its archive from rows of the log, and a file of its log."""

    write: Callable[[Path, list[Row]], Path]
    rows: Callable[[], list[Row]]
    log: str


RELEASES = {
    "kuairand-pure": Release(
        kuairand_csv.write_kuairand, kuairand_csv.default_log, f"data/{kuairand_csv.FIRST_LOG}"
    ),
    "kuairand-1k": Release(
        kuairand_csv.write_1k, kuairand_csv.default_log, f"data/{kuairand_csv.LOGS_1K[1]}.csv"
    ),  # a column of its second log may be missing as well as one of its first
    "kuairec": Release(
        lambda folder, rows: kuairec_csv.write(folder, big=rows), kuairec_csv.big, "data/big_matrix.csv"
    ),
    "wechat": Release(wechat_csv.write, wechat_csv.actions, "user_action.csv"),
}


def prepared(dataset: str, source: Path, out: Path) -> Dataset:
    """Return what `prepare` makes of a published log."""
    return load(prepare(dataset, source, out, progress=False).out)


def refusal(dataset: str, source: Path | None, out: Path) -> str:
    """Return the one line that `prepare` ends with; nothing may be left behind."""
    with pytest.raises(BadInput) as caught:
        prepare(dataset, source, out, progress=False)
    assert not out.exists()
    assert [p for p in out.parent.iterdir() if p.name.startswith(".")] == []
    message = str(caught.value)
    assert "\n" not in message
    return message
