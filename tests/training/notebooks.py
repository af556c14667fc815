"""`python -m tests.training.notebooks`: run the notebooks anew, and write their outputs into them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

from tests.conftest import ROOT

FOLDER: Final = ROOT / "training" / "notebooks"
NOTEBOOKS: Final = tuple(sorted(FOLDER.glob("*.ipynb")))
PROGRESS: Final = re.compile(r"^.*: \d+%.*\n?", re.MULTILINE)
"""A line of `training.progress` where there is no terminal."""


def read(path: Path) -> Any:
    """Return a notebook."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def execute(path: Path, cwd: Path = ROOT) -> Any:
    """Return a notebook with the outputs of a run from its source, without the lines of progress.

    Args:
        path: of the notebook.
        cwd: in which folder it runs.
    """
    notebook = read(path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    client = NotebookClient(
        notebook,
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(cwd)}},
    )
    client.execute(env=environment)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_without_progress, cell.outputs) if output is not None]
    notebook.metadata = read(path).metadata
    return notebook


def _without_progress(output: Any) -> Any:
    if output.output_type == "stream" and output.name == "stderr":
        output.text = PROGRESS.sub("", output.text)
        return output if output.text else None
    return output


def main() -> None:
    """Write every notebook."""
    for path in NOTEBOOKS:
        path.write_text(nbformat.writes(execute(path)) + "\n")  # type: ignore[no-untyped-call]
        print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
