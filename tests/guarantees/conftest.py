"""Two workers with an embedded store, shared by tests that do not break them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.service import tiny_bundle
from tests.service.running import running

_numbers = itertools.count()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two versions, not to be changed."""
    root = tmp_path_factory.mktemp("guaranteed")
    tiny_bundle.write_root(root, tiny_bundle.FIRST, tiny_bundle.SECOND)
    return root


@pytest.fixture(scope="session")
def pair(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """Every request is a connection of its own, which goes to one of the two workers, as the kernel likes."""
    data = tmp_path_factory.mktemp("pair")
    with (
        running(bundles, data, "--workers", "2", REELRANK_SEQUENCE_LENGTH="5") as started,
        started.client(headers={"connection": "close"}) as client,
    ):
        yield client


@pytest.fixture
def new_user() -> Callable[[], str]:
    """Users of the test's own."""
    return lambda: f"guaranteed-{next(_numbers)}"
