"""schemathesis against a running service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.conftest import ROOT

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")


def check(url: str, *, examples: int, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Every check of schemathesis on every operation that `/openapi.json` describes, alone and in sequences;
    the same cases every time.

    Args:
        url: of the service.
        examples: generated cases an operation in the fuzzing phase; the coverage phase has its own number.
        timeout_s: after which it is a failure.
    """
    start = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
    options = ["--config-file", str(CONFIG), "run", f"{url}/openapi.json", "--max-examples", str(examples)]
    return subprocess.run(
        [sys.executable, "-c", start, *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
