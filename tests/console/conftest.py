"""One browser and one service for all of these tests; users are a test's own."""

from __future__ import annotations

import re
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


@pytest.fixture(scope="package")
def documented(console: ConsoleService) -> list[tuple[str, re.Pattern[str]]]:
    """Method and path of every operation in the service's description."""
    with console.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    return [
        (method, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))))
        for path, operations in paths.items()
        for method in operations
    ]


@pytest.fixture
def tab(
    browser: Browser, console: ConsoleService, documented: list[tuple[str, re.Pattern[str]]]
) -> Iterator[ConsolePage]:
    """A tab in which nothing may go wrong, and that asks for nothing undocumented, whatever a test does."""
    with console_page(browser, console.url) as opened:
        yield opened
        assert opened.errors == []
        assert opened.foreign == []
        assert not [
            (method, path)
            for method, path in opened.calls
            if not any(method == m and pattern.fullmatch(path) for m, pattern in documented)
        ]


@pytest.fixture
def user(request: pytest.FixtureRequest, console: ConsoleService) -> str:
    """A user with 14 exposures, the test's own."""
    name: str = request.node.name
    console.add_history(name)
    return name
