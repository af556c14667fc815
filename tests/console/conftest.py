"""One browser and one service for all of these tests; users are a test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.console.console_page import (
    CHROMIUM,
    ConsolePage,
    ConsoleService,
    chromium,
    console_page,
    console_service,
)

WAIT_MS = 60_000
"""A busy machine may take its time."""

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH (apt-get install chromium)")
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def console(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleService]:
    with console_service(tmp_path_factory.mktemp("console")) as service:
        yield service


@pytest.fixture
def tab(browser: Browser, console: ConsoleService) -> Iterator[ConsolePage]:
    """A tab in which nothing may go wrong, whatever a test does."""
    with console_page(browser, console.url) as opened:
        yield opened
        assert opened.errors == []
        assert opened.foreign == []


@pytest.fixture
def user(request: pytest.FixtureRequest, console: ConsoleService) -> str:
    """A user with 14 exposures, the test's own."""
    name: str = request.node.name
    console.add_history(name)
    return name
