"""One running service for all tests that do not break it; users are a test's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.service import tiny_bundle
from tests.service.running import Service, running

_numbers = itertools.count()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two versions, not to be changed."""
    root = tmp_path_factory.mktemp("bundles")
    tiny_bundle.write_root(root, tiny_bundle.FIRST, tiny_bundle.SECOND)
    return root


@pytest.fixture(scope="session")
def service(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real program with its embedded store."""
    with running(bundles, tmp_path_factory.mktemp("data")) as started:
        yield started


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    with service.client() as http:
        yield http


@pytest.fixture
def new_id() -> Callable[[], str]:
    """Ids that no other test uses."""
    return lambda: f"id-{next(_numbers)}"


@pytest.fixture
def user(new_id: Callable[[], str]) -> str:
    return new_id()
