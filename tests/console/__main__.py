"""`python -m tests.console [FOLDER]`: pictures of each view, into `service/pictures` by default."""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect

from models.experiment_report import FOLDER
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
from training.data import DAY_MS
from training.experiments.served_experiment import report_experiment

USER = "ann"
EXPERIMENT = "likes"
USERS, DAYS, WATCHED = 240, 6, 12
"""Who watch how many videos of a slate a day."""
LABELS = "labelcraft,d2q,wtg"
COLOURS = 256
"""Of a picture, which is then half as large."""
SIZES: dict[str, tuple[int, int, Theme]] = {
    "why": (1400, 980, "light"),
    "compare": (1400, 860, "light"),
    "label": (1400, 780, "light"),
    "user": (1600, 960, "light"),
    "versions": (1400, 1130, "dark"),
    "health": (1400, 1250, "dark"),
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
        add_user(service)
        with service.client() as client:
            arms = [{"name": "A"}, {"name": "B", "weights": {"watch_time": 1.0, "like": 0.3}}]
            experiment = {"name": EXPERIMENT, "share": 1, "arms": arms}
            client.post("/v1/experiments", json=experiment).raise_for_status()
            client.post(f"/v1/models/{NEXT}:shadow", json={"share": 0.1}).raise_for_status()
        add_traffic(service, USERS, DAYS)
        out = service.log / FOLDER / EXPERIMENT / "1"
        report_experiment(EXPERIMENT, service.log, out, arms=["A", "B"], smallest_effect=0.1)
        for view, (width, height, theme) in SIZES.items():
            with console_page(browser, service.url, width, height, theme) as tab:
                page = show(tab, view)
                if view == "health":
                    add_traffic(service, USERS, 1)
                    page.wait_for_timeout(6000)
                page.mouse.move(0, 0)
                picture = Image.open(io.BytesIO(page.screenshot()))
                picture.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(
                    folder / f"console-{view}.png", optimize=True
                )
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
            expect(page.get_by_text("0 of 16", exact=True)).to_be_hidden()
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


def add_user(service: ConsoleService) -> None:
    """Give the user a history in which one event came twice, one with more feedback, and one late."""
    events = service.add_history(USER)
    late = events[0] | {"event_id": "late", "timestamp_ms": events[4]["timestamp_ms"] - 60_000}
    with service.client() as client:
        for event in (events[11], events[9] | {"like": True}, late):
            client.post("/label", json=[event]).raise_for_status()


def add_traffic(service: ConsoleService, users: int, days: int) -> None:
    """Let users watch one slate each on each of the last days: for about as long as was predicted, and longer
    in arm B."""
    draw = random.Random(1)
    habits = [draw.lognormvariate(-0.2, 0.4) for _ in range(users)]
    now = int(time.time() * 1000)
    with service.client() as client:
        for day in range(days):
            for user, habit in enumerate(habits):
                moment = now - (days - day) * DAY_MS + user * 60_000
                candidates = [video(draw, video_id) for video_id in draw.sample(VOCABULARY["video_id"], 40)]
                body = {"user_id": f"u{user}", "timestamp_ms": moment, "candidates": candidates}
                slate = client.post("/rerank", json=body).raise_for_status().json()
                mean = habit * (1.3 if slate["arm"] == "B" else 1.0)
                known = {candidate["video_id"]: candidate for candidate in candidates}
                events = [
                    known[item["video_id"]]
                    | {
                        "event_id": f"{slate['request_id']}-{position}",
                        "user_id": f"u{user}",
                        "timestamp_ms": moment + 1000 * position,
                        "watch_time_s": draw.expovariate(1 / (mean * item["expected_watch_time_s"])),
                        "like": draw.random() < item["objectives"]["like"],
                        "request_id": slate["request_id"],
                        "position": position,
                    }
                    for position, item in enumerate(slate["items"][:WATCHED], 1)
                ]
                client.post("/label", params={"labels": LABELS}, json=events).raise_for_status()
        client.post("/rerank", json={"user_id": "u", "candidates": []})


def video(draw: random.Random, video_id: str) -> dict[str, Any]:
    """A candidate of a length that feeds have."""
    return {
        "video_id": video_id,
        "author_id": draw.choice(VOCABULARY["author_id"]),
        "tag": draw.choice(VOCABULARY["tag"]),
        "duration_s": min(900.0, 2 + draw.lognormvariate(4.0, 0.9)),
    }


if __name__ == "__main__":
    main()
