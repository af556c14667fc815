"""axe-core finds nothing serious, in any view, theme and width; and nothing is wider than its screen."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page

from tests.console.console_page import ConsoleService, Theme, console_page

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("console")]

AXE: Final = (Path(__file__).parent / "axe" / "axe.min.js").read_text()
VIEWS: Final = ("why", "compare", "label", "user", "versions", "health")
READY: Final = {
    "why": "[aria-label=Influence] tbody tr",
    "compare": "svg .entry",
    "label": "svg.surface",
    "user": "[aria-label=Sequence] tbody tr",
    "versions": "[aria-label=Evaluation]",
    "health": "[aria-label='Requests by route']",
}


def faults(page: Page) -> list[str]:
    """What axe-core calls serious or worse, with the first element of each."""
    # A script of the page's own world, which its policy does not concern.
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations'], elementRef: false})")
    serious = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in serious]


@pytest.mark.parametrize(("width", "theme"), [(1440, "dark"), (360, "light")])
def test_nothing_serious_is_found(
    browser: Browser, console: ConsoleService, user: str, width: int, theme: Theme
) -> None:
    found: dict[str, list[str]] = {}
    with console_page(browser, console.url, width, 800, theme) as tab:
        tab.rank_example(user)
        for view in VIEWS:
            page = tab.open(view)
            page.locator(READY[view]).first.wait_for()
            found[view] = faults(page)
            if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
                found[view].append("wider than the screen")
        assert tab.errors == []
    assert found == {view: [] for view in VIEWS}


def test_a_screen_of_2560_pixels_is_used(browser: Browser, console: ConsoleService, user: str) -> None:
    with console_page(browser, console.url, 2560, 1400) as tab:
        page = tab.rank_example(user)
        page.locator("[aria-label=Influence] tbody tr").first.wait_for()
        columns = {
            round(box["x"]) for panel in page.locator("main .panel").all() if (box := panel.bounding_box())
        }
        assert len(columns) == 3
