"""A browser, and a service with the released bundle for it to show."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx2
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from models.manifest import MANIFEST
from models.store import BundleStore
from service.state import EmbeddedServer
from tests.conftest import ROOT
from tests.service.running import running

CHROMIUM: Final = shutil.which("chromium")
BUNDLES: Final = ROOT / "models" / "bundles"
RELEASED: Final = BundleStore(BUNDLES).current()
NEXT: Final = "20991231-00000002"
"""The released version under another name: to promote, and to have a shadow of."""

VOCABULARY: Final = json.loads((BUNDLES / RELEASED / "vocabulary.json").read_text())
AUTHORS: Final[list[str]] = VOCABULARY["author_id"][:6]
"""Those of the example slate."""

WATCHED_S: Final = (0.8, 14.0, 30.0, 5.0, 1.2, 60.0, 2.0, 40.0, 27.0, 9.0, 12.0, 3.0, 31.0, 20.0)
DURATIONS_S: Final = (8.0, 14.0, 21.0, 35.0, 12.0, 62.0, 18.0, 95.0, 27.0, 44.0, 10.0, 150.0, 31.0, 23.0)

Theme = Literal["light", "dark"]


@dataclass
class ConsoleService:
    """A running service, its store, and what has been asked of it."""

    url: str
    store: EmbeddedServer
    log: Path
    """Folder of the served log."""

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60)

    def add_history(self, user: str) -> list[dict[str, Any]]:
        """Store 14 exposures of a user, the last half an hour ago, and return them."""
        now = int(time.time() * 1000)
        events: list[dict[str, Any]] = [
            {
                "event_id": f"{user}-{i}",
                "user_id": user,
                "video_id": VOCABULARY["video_id"][40 + i],
                "timestamp_ms": now - (15 - i) * 900_000,
                "watch_time_s": watched,
                "duration_s": duration,
                "author_id": AUTHORS[i % len(AUTHORS)],
                "tag": VOCABULARY["tag"][i % 5],
                "like": i in (2, 8),
                "follow": i == 5,
                "comment": i == 8,
                "profile_enter": i == 12,
            }
            for i, (watched, duration) in enumerate(zip(WATCHED_S, DURATIONS_S, strict=True))
        ]
        with self.client() as client:
            client.post("/label", json={"events": events}).raise_for_status()
        return events


@contextmanager
def console_service(folder: Path) -> Iterator[ConsoleService]:
    """The program with the released bundle and a second version, over a store that can be ended alone."""
    bundles = folder / "bundles"
    shutil.copytree(BUNDLES, bundles)
    shutil.copytree(BUNDLES / RELEASED, bundles / NEXT)
    manifest = json.loads((bundles / NEXT / MANIFEST).read_text())
    (bundles / NEXT / MANIFEST).write_text(json.dumps(manifest | {"version": NEXT}))
    with (
        EmbeddedServer(folder / "store") as store,
        running(
            bundles, folder / "data", REELRANK_STORE=store.url, REELRANK_LOG_DIR=str(folder / "log")
        ) as service,
    ):
        yield ConsoleService(service.url, store, folder / "log")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    with sync_playwright() as playwright:
        # Its sandbox needs rights that containers rarely have; it loads nothing but this page.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class ConsolePage:
    """A tab with the console, and what must not happen in it."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    """Errors of scripts and of the policy; replies of 4xx and 5xx are not."""
    foreign: list[str] = field(default_factory=list)
    """Requests to another origin."""
    calls: set[tuple[str, str]] = field(default_factory=set)
    """Method and path of each request for data."""

    def __post_init__(self) -> None:
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note_request)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith(self.url):
            self.foreign.append(request.url)
        elif request.resource_type == "fetch":
            path = request.url.removeprefix(self.url).partition("?")[0]
            self.calls.add((request.method.lower(), path))

    def open(self, view: str) -> Page:
        """Show a view."""
        self.page.goto(f"{self.url}/console#{view}")
        self.page.get_by_role("heading", level=1).wait_for()
        return self.page

    def rank_example(self, user: str, view: str = "why") -> Page:
        """Show a view with the slate of the example's candidates."""
        page = self.open(view)
        page.get_by_label("User id").fill(user)
        page.get_by_role("button", name="Example").click()
        page.get_by_role("button", name="Rank").click()
        return page


@contextmanager
def console_page(
    browser: Browser, url: str, width: int = 1440, height: int = 900, theme: Theme = "light"
) -> Iterator[ConsolePage]:
    """A new tab that shares nothing with the others."""
    with browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
    ) as context:
        context.set_default_timeout(60_000)
        yield ConsolePage(context.new_page(), url)
