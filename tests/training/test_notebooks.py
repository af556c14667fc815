"""The notebooks run from their sources, and are committed with outputs that are worth reading."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.training.notebooks import FOLDER, NOTEBOOKS, execute, read

LARGEST = 200_000
"""Bytes of a notebook, pictures included."""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[list[str]]:
    """What each output of a cell consists of: a stream's name, or media types."""
    return [sorted(output.get("data", [output.get("name")])) for output in cell.outputs]


def texts(notebook: Any) -> str:
    """What is written in a notebook: sources, and outputs that are not pictures."""
    parts = [cell.source for cell in notebook.cells]
    for output in (output for cell in code(notebook) for output in cell.outputs):
        parts += [
            output.get("text", ""),
            *(v for k, v in output.get("data", {}).items() if k.startswith("text/")),
        ]
    return "\n".join(parts)


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_from_its_source_and_shows_what_is_committed(path: Path) -> None:
    fresh, committed = execute(path, FOLDER), read(path)
    assert [kinds(cell) for cell in code(fresh)] == [kinds(cell) for cell in code(committed)]
    assert not re.search("warning", texts(fresh), re.IGNORECASE)


@every_notebook
def test_every_cell_of_a_committed_notebook_was_run_in_order(path: Path) -> None:
    cells = code(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in kind for cell in cells for kind in kinds(cell))


@every_notebook
def test_a_committed_notebook_has_no_errors_warnings_or_paths_of_a_machine(path: Path) -> None:
    notebook = read(path)
    assert not [cell.id for cell in code(notebook) if ["stderr"] in kinds(cell)]
    assert not re.search(
        r"warning|(?<![\w.])/(home|opt|private|root|tmp|Users|usr|var|work)/", texts(notebook), re.I
    )
    assert path.stat().st_size < LARGEST
