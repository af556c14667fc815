"""`python -m service …` in this process: what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from service.__main__ import main


@dataclass(frozen=True)
class Ended:
    """An ended command."""

    code: int
    out: str
    err: str


def invoke(*args: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
    """Run a command that ends by itself, with variables added to the environment."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    code, out, err = 0, io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "120", **(env or {})}),
        mock.patch.object(sys, "argv", ["service", *map(str, args)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as e:
            code = int(e.code or 0)
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
    return Ended(code, out.getvalue(), err.getvalue())


def refusal(*args: str | Path, data_dir: Path, **env: str) -> str:
    """The one line with which a command that cannot run ends, besides lines of the log."""
    ended = invoke(*args, env={"REELRANK_DATA_DIR": str(data_dir), **env})
    assert (ended.code, "Traceback" in ended.err) == (2, False), ended.err
    (line,) = [line for line in ended.err.splitlines() if not line.startswith("{")]
    return line
