"""`python -m tests.console [FOLDER]`: pictures of each view, into `service/pictures` by default."""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.conftest import ROOT
from tests.console.console_page import (
    AUTHORS,
    NEXT,
    VOCABULARY,
    ConsolePage,
    ConsoleService,
    Theme,
    chromium,
    console_page,
    console_service,
)

USER = "ann"
COLOURS = 256
"""Of a picture, which is then half as large."""
SIZES: dict[str, tuple[int, int, Theme]] = {
    "why": (1400, 980, "light"),
    "compare": (1400, 860, "light"),
    "label": (1400, 780, "light"),
    "user": (1400, 800, "light"),
    "versions": (1400, 980, "dark"),
    "health": (1400, 900, "dark"),
}
"""Pixels and theme of each picture."""


def main() -> None:
    """Start a service and a browser, and take the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "service" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        chromium() as browser,
        console_service(Path(data)) as service,
    ):
        service.add_history(USER)
        with service.client() as client:
            arms = [{"name": "A"}, {"name": "B", "weights": {"watch_time": 1.0, "like": 0.3}}]
            experiment = {"name": "likes", "share": 0.5, "arms": arms}
            client.post("/v1/experiments", json=experiment).raise_for_status()
            client.post(f"/v1/models/{NEXT}:shadow", json={"share": 1}).raise_for_status()
        add_traffic(service)
        for view, (width, height, theme) in SIZES.items():
            with console_page(browser, service.url, width, height, theme) as tab:
                page = show(tab, view)
                if view == "health":
                    add_traffic(service)
                    page.wait_for_timeout(6000)
                page.mouse.move(0, 0)
                picture = Image.open(io.BytesIO(page.screenshot()))
                picture.quantize(COLOURS).save(folder / f"console-{view}.png", optimize=True)
        print(f"wrote {len(SIZES)} pictures to {folder}")


def show(tab: ConsolePage, view: str) -> Page:
    """Bring a view into a state that shows what it is for."""
    if view in ("why", "compare", "user"):
        page = tab.rank_example(USER, "why" if view == "user" else view)
        page.locator(".panel table").first.wait_for()
    page = tab.open(view)
    match view:
        case "why":
            page.locator("[aria-label=Influence] tbody tr").first.wait_for()
        case "compare":
            page.locator("svg .entry").first.wait_for()
            page.locator("input[name=weight-like]").fill("0.5")
            page.locator("input[name=weight-complete_view]").fill("0.45")
            expect(page.get_by_text("0 of 16")).to_be_hidden()
        case "label":
            page.get_by_label("like").check()
            page.locator("svg.surface").wait_for()
            expect(page.get_by_text("50 % watched, like.")).to_be_visible()
        case "user":
            page.get_by_label("Video id").fill(VOCABULARY["video_id"][60])
            page.get_by_label("Author id").fill(AUTHORS[0])
            page.get_by_label("hate").check()
            page.get_by_role("button", name="Send").click()
            expect(page.get_by_text("before the last event")).to_be_visible()
        case "health":
            page.get_by_role("button", name="Since the start").click()
            page.get_by_role("region", name="Drift").wait_for()
        case _:
            page.locator(".panel table").first.wait_for()
    page.wait_for_timeout(800)  # whatever is still being drawn
    return page


def add_traffic(service: ConsoleService, requests: int = 100) -> None:
    """Send bodies of 20 events and slates of 60 candidates, as a small feed does."""
    draw = random.Random(1)
    now = int(time.time() * 1000)

    def video() -> dict[str, object]:
        return {
            "video_id": draw.choice(VOCABULARY["video_id"]),
            "author_id": draw.choice(VOCABULARY["author_id"]),
            "tag": draw.choice(VOCABULARY["tag"]),
            "duration_s": min(900.0, 2 + draw.lognormvariate(4.0, 0.9)),
        }

    with service.client() as client:
        for request in range(requests):
            user = f"u{request % 40}"
            events = [
                video()
                | {
                    "event_id": f"{request}-{i}",
                    "user_id": user,
                    "timestamp_ms": now - 60_000 * (requests - request) - 1000 * i,
                    "watch_time_s": min(900.0, draw.expovariate(0.08)),
                    "like": draw.random() < 0.03,
                }
                for i in range(20)
            ]
            client.post("/label", params={"labels": "labelcraft,d2q,wtg"}, json=events).raise_for_status()
            ids = draw.sample(VOCABULARY["video_id"], 60)
            candidates = [video() | {"video_id": video_id} for video_id in ids]
            client.post("/rerank", json={"user_id": user, "candidates": candidates}).raise_for_status()
        client.post("/rerank", json={"user_id": "u", "candidates": []})


if __name__ == "__main__":
    main()
