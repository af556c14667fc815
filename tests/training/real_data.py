"""Where the real logs are, for tests that need them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

KUAIRAND = Path(__file__).parents[2].parent / "shared" / "data" / "kuairand-pure"
"""A slice of KuaiRand-Pure as parquet, beside the repository; see the README there."""

_Test = TypeVar("_Test", bound=Callable[..., Any] | type)


def needs_kuairand(test: _Test) -> _Test:
    """Mark a test as `real_data`, and skip it with a reason where the logs are not."""
    missing = pytest.mark.skipif(not KUAIRAND.is_dir(), reason=f"no real logs at {KUAIRAND}")
    marked: _Test = pytest.mark.real_data(missing(test))
    return marked
